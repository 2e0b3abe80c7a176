"""Export a trained generator to other programs' formats, and verify each file in a fresh process."""
