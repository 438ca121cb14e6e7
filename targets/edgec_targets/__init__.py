"""What edgec compiles for: boards as data, targets as an ordered list of emitters."""
