"""The slim device runtime of edgec."""
