"""What `%import` gives: the terminals of Lark's libraries `common` and `unicode`, and those of `python`, by name."""

from __future__ import annotations

COMMON = r"""
DIGIT: /[0-9]/
HEXDIGIT: /[a-fA-F0-9]/
INT: DIGIT+
SIGNED_INT: /[+-]/? INT
DECIMAL: INT "." INT? | "." INT
_EXP: "e"i SIGNED_INT
FLOAT: INT _EXP | DECIMAL _EXP?
SIGNED_FLOAT: /[+-]/? FLOAT
NUMBER: FLOAT | INT
SIGNED_NUMBER: /[+-]/? NUMBER
_STRING_INNER: /.*?/
_STRING_ESC_INNER: _STRING_INNER /(?<!\\)(\\\\)*?/
ESCAPED_STRING: "\"" _STRING_ESC_INNER "\""
LCASE_LETTER: /[a-z]/
UCASE_LETTER: /[A-Z]/
LETTER: UCASE_LETTER | LCASE_LETTER
WORD: LETTER+
CNAME: ("_" | LETTER) ("_" | LETTER | DIGIT)*
WS_INLINE: /[ \t]/+
WS: /[ \t\f\r\n]/+
CR: "\r"
LF: "\n"
NEWLINE: (CR? LF)+
SH_COMMENT: /#[^\n]*/
CPP_COMMENT: /\/\/[^\n]*/
C_COMMENT: "/*" /(.|\n)*?/ "*/"
SQL_COMMENT: /--[^\n]*/
"""
UNICODE = r"""
WS_INLINE: /[ \t\xa0]/+
WS: /[ \t\xa0\f\r\n]/+
"""
PYTHON = r"""
NAME: /[^\W\d]\w*/
COMMENT: /#[^\n]*/
_NEWLINE: (/\r?\n[\t ]*/ | COMMENT)+
STRING: /([ubf]?r?|r[ubf])("(?!"").*?(?<!\\)(\\\\)*?"|'(?!'').*?(?<!\\)(\\\\)*?')/i
LONG_STRING: /([ubf]?r?|r[ubf])("{3}.*?(?<!\\)(\\\\)*?"{3}|'{3}.*?(?<!\\)(\\\\)*?'{3})/is
_SPECIAL_DEC: /[0-9](_?[0-9])*/
DEC_NUMBER: /[1-9](_?[0-9])*/ | /0(_?0)*(?![1-9])/
HEX_NUMBER: /0[xX](_?[0-9a-fA-F])+/
OCT_NUMBER: /0[oO](_?[0-7])+/
BIN_NUMBER: /0[bB](_?[01])+/
_EXP: /[eE][-+]?/ _SPECIAL_DEC
DECIMAL: "." _SPECIAL_DEC | _SPECIAL_DEC "." _SPECIAL_DEC?
FLOAT_NUMBER: _SPECIAL_DEC _EXP | DECIMAL _EXP?
IMAG_NUMBER: (_SPECIAL_DEC | FLOAT_NUMBER) /[jJ]/
"""
LIBRARIES = {"common": COMMON, "unicode": UNICODE, "python": PYTHON}
