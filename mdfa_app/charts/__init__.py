"""How things are drawn: line charts, pictures, style sheets, numbers in words."""
