"""Stemma's version. Imports nothing."""

VERSION = "0.1.0"
