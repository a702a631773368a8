"""The web page of scripts/app.py."""

from importlib.util import find_spec

from utils.errors import UserError

if find_spec("gradio") is None:
    raise UserError("gradio is not installed; the page wants: pip install -e '.[app]'")
