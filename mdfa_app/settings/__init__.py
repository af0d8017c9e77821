"""What a visitor may choose: rules, presets, speeds, limits, and the link that spells a choice."""
