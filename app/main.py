"""What `panel serve app/` runs for every visitor; handlers live in the package, which outlives the visit."""

from app.page import build

build().servable()
