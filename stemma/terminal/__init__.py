"""What the command line shows: pictures, tables, progress, the demo."""
