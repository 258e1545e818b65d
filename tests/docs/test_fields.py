"""The page of fields is what the requests' types say."""

from __future__ import annotations

from docs.draw_fields import PAGE, page


def test_the_page_of_fields_is_up_to_date() -> None:
    """`python docs/draw_fields.py` writes it anew."""
    assert PAGE.read_text("utf-8") == page()
