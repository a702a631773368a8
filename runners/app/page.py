"""The web page's events: each calls the studio, and returns what to show."""

import html
import logging
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image
from starlette.middleware import Middleware

from runners.app.guard import NoAddresses
from runners.app.layout import CSS, THEME, Layout
from runners.app.studio import MAX_BYTES, Studio
from runners.app.visit import AUTOMATIC, NO_MASK, PAINTED, UPLOADED, EditRequest
from utils.errors import UserError
from utils.images import MAX_PIXELS

logger = logging.getLogger(__name__)

Values = dict[Any, Any]  # component -> its value
Updates = dict[Any, Any]  # component -> its new value, or a component with its new properties

MAX_WAITING = 16  # requests
_COMPUTING: dict[str, Any] = {
    "concurrency_id": "computing", "concurrency_limit": 1, "api_visibility": "private"
}  # fmt: skip
# Not in that queue: a second image is refused at once and does not wait.
_OPENING: dict[str, Any] = {"concurrency_limit": None, "trigger_mode": "multiple", "api_visibility": "private"}
_PROGRESS = gr.Progress()


def _shown(action: Callable[..., Any]) -> Callable[..., Any]:
    """Show a UserError to the visitor as one line. Log other errors, and show only that something failed."""

    @wraps(action)
    def run(*args: Any) -> Any:
        try:
            return action(*args)
        except UserError as error:
            raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from None
        except Exception:
            logger.exception("%s failed", action.__name__)
            raise gr.Error("Something failed on the server; see its log.", print_exception=False) from None

    return run


class Page(Layout):
    """The page of a studio, with its events."""

    def __init__(self, studio: Studio) -> None:
        super().__init__(studio)
        with self.blocks:
            self._connect()

    def _connect(self) -> None:
        opened = [*self.results, self.power, self.labels, self.stack, self.canvas, self.mask, self.threshold]
        opened += [self.painting, self.own_mask, self.strip, self.gif, self.whole]
        opening = {**_OPENING, "show_progress_on": self.compare}
        self.upload.upload(_shown(self._open), {self.upload, self.align}, opened, preprocess=False, **opening)
        self.samples.select(_shown(self._choose), {self.align}, opened, **opening)
        self.align.input(_shown(self._realign), {self.align}, opened, **opening)

        computing = {**_COMPUTING, "show_progress": "minimal", "show_progress_on": self.status}
        texts = [self.direction, self.words, self.problem, self.neutral, self.target, self.number]
        self.family.input(_shown(self._change_family), self.inputs, [*texts, self.power, *self.results], **computing)
        self.direction.input(_shown(self._change_direction), self.inputs, [self.power, *self.results], **computing)
        live = [self.power.input, self.stack.input, self.threshold.release, self.whole.input]
        live += [self.neutral.submit, self.target.submit, self.number.submit]
        gr.on(live, _shown(self._edit), self.inputs, self.results, trigger_mode="always_last", **computing)
        stacked = [self.labels, self.stack, self.power, *self.results]
        for button, action in ((self.add, self._add), (self.remove, self._remove), (self.clear, self._clear)):
            button.click(_shown(action), {*self.inputs, self.labels}, stacked, **computing)

        kinds = [self.threshold, self.painting, self.own_mask, *self.results]
        self.mask.input(_shown(self._change_mask), self.inputs, kinds, **computing)
        self.paint.click(_shown(self._paint), {*self.inputs, self.canvas}, self.results, **computing)
        self.own_mask.upload(_shown(self._upload_mask), {self.own_mask}, [], preprocess=False, **computing).success(
            _shown(self._edit), self.inputs, self.results, **computing
        )
        computing["show_progress_on"], computing["show_progress"] = self.sweep, "full"
        self.sweep.click(_shown(self._sweep), self.inputs, [self.strip, self.gif], **computing)
        self.blocks.unload(self._leave)

    def _open(self, values: Values, request: gr.Request, progress: gr.Progress = _PROGRESS) -> Updates:
        file = values[self.upload]
        name = Path(str(file.get("orig_name") or "picture")).name
        self.studio.open(_visitor(request), Path(file["path"]), name, bool(values[self.align]), progress)
        return self._opened(request)

    def _choose(
        self, values: Values, chosen: gr.SelectData, request: gr.Request, progress: gr.Progress = _PROGRESS
    ) -> Updates:
        self.studio.open_sample(_visitor(request), int(chosen.index), values[self.align], progress)
        return self._opened(request)

    def _realign(self, values: Values, request: gr.Request, progress: gr.Progress = _PROGRESS) -> Updates:
        if not self.studio.has_visit(_visitor(request)):
            return gr.skip()
        self.studio.reopen(_visitor(request), values[self.align], progress)
        return self._opened(request)

    def _opened(self, request: gr.Request) -> Updates:
        """The page of an image that has just been opened: no edits, no mask."""
        with self.studio.using(_visitor(request)) as visit:
            canvas, cut_out = str(visit.canvas()), visit.photo.quad is not None
        return {
            **self._results(request, EditRequest({})), self.power: 0, self.labels: [], self.mask: NO_MASK,
            self.stack: gr.CheckboxGroup(choices=[], value=[], visible=False),
            self.canvas: {"background": canvas, "layers": [], "composite": canvas},
            self.threshold: gr.Slider(visible=False), self.painting: gr.Column(visible=False),
            self.own_mask: gr.File(value=None, visible=False), self.strip: gr.Image(value=None, visible=False),
            self.gif: gr.Image(value=None, visible=False), self.whole: gr.Checkbox(value=False, visible=cut_out),
        }  # fmt: skip

    def _edit(self, values: Values, request: gr.Request) -> Updates:
        return self._if_open(values, request) or gr.skip()

    def _change_family(self, values: Values, request: gr.Request) -> Updates:
        family = values[self.family]
        names = [direction.name for direction in self.studio.families[family]]
        words, problem = family in self.studio.text_families, self.problem_of(family)
        texts = (self.neutral, gr.Textbox), (self.target, gr.Textbox), (self.number, gr.Number)
        values[self.direction] = names[0]
        return {
            self.direction: gr.Radio(choices=names, value=names[0], visible=not words),
            self.words: gr.Column(visible=words), self.problem: problem and f"Not available: {html.escape(problem)}",
            **{box: kind(interactive=not problem) for box, kind in texts}, **self._change_direction(values, request),
        }  # fmt: skip

    def _change_direction(self, values: Values, request: gr.Request) -> Updates:
        values[self.power] = 0
        slider = gr.Slider(**self.slider(values[self.family], values[self.direction]))
        return {self.power: slider, **self._if_open(values, request)}

    def _add(self, values: Values, request: gr.Request) -> Updates:
        if not values[self.power]:
            raise UserError("the power is 0: move the slider first")
        name = self._name(values)
        label = _label(name, values[self.power])
        labels = [other for other in values[self.labels] if _parsed(other)[0] != name] + [label]
        ticked = [other for other in values[self.stack] if other in labels]
        return self._stacked(values, request, labels, [*ticked, label])

    def _remove(self, values: Values, request: gr.Request) -> Updates:
        ticked = values[self.stack]
        return self._stacked(values, request, ticked, ticked, values[self.power])

    def _clear(self, values: Values, request: gr.Request) -> Updates:
        return self._stacked(values, request, [], [])

    def _stacked(
        self, values: Values, request: gr.Request, labels: list[str], ticked: list[str], power: float = 0
    ) -> Updates:
        values[self.stack], values[self.power] = ticked, power
        stack = gr.CheckboxGroup(choices=labels, value=ticked, visible=bool(labels))
        return {self.labels: labels, self.stack: stack, self.power: power, **self._if_open(values, request)}

    def _change_mask(self, values: Values, request: gr.Request) -> Updates:
        kind = values[self.mask]
        return {
            self.threshold: gr.Slider(visible=kind == AUTOMATIC), self.painting: gr.Column(visible=kind == PAINTED),
            self.own_mask: gr.File(visible=kind == UPLOADED), **self._if_open(values, request),
        }  # fmt: skip

    def _paint(self, values: Values, request: gr.Request) -> Updates:
        self.studio.paint(_visitor(request), (values[self.canvas] or {}).get("layers", []))
        return self._results(request, self._edit_request({**values, self.mask: PAINTED}, request))

    def _upload_mask(self, values: Values, request: gr.Request) -> None:
        file = values[self.own_mask]
        self.studio.upload_mask(_visitor(request), Path(file["path"]), Path(str(file.get("orig_name") or "mask")).name)

    def _sweep(self, values: Values, request: gr.Request, progress: gr.Progress = _PROGRESS) -> Updates:
        name, direction = self._name(values), self.find(values[self.family], values[self.direction])
        powers = direction.low, direction.high
        files = self.studio.sweep(_visitor(request), self._edit_request(values, request), name, powers, progress)
        shown = zip((self.strip, self.gif), files, strict=True)
        return {image: gr.Image(value=str(file), visible=True) for image, file in shown}

    def _leave(self, request: gr.Request) -> None:
        self.studio.close(_visitor(request))

    def _name(self, values: Values) -> str:
        """The direction's name."""
        if values[self.family] not in self.studio.text_families:
            return values[self.direction]
        phrases = [str(values[box]).replace("_", " ").strip() for box in (self.neutral, self.target)]
        prefix = self.studio.text_families[values[self.family]].prefix
        return "_".join([prefix, *phrases, f"{values[self.number] or 0:g}"])

    def _edit_request(self, values: Values, request: gr.Request) -> EditRequest:
        """The visitor's inputs. A mask of the visitor's counts only once it exists."""
        edits = dict(map(_parsed, values[self.stack]))
        if values[self.power]:
            edits[self._name(values)] = values[self.power]
        mask = values[self.mask] if self.studio.has_mask(_visitor(request), values[self.mask]) else NO_MASK
        return EditRequest(edits, mask, values[self.threshold], bool(values[self.whole]))

    def _if_open(self, values: Values, request: gr.Request) -> Updates:
        """The results, or nothing if no image is open yet."""
        if not self.studio.has_visit(_visitor(request)):
            return {}
        return self._results(request, self._edit_request(values, request))

    def _results(self, request: gr.Request, edit_request: EditRequest) -> Updates:
        start = time.monotonic()
        result = self.studio.edit(_visitor(request), edit_request)
        edits = ", ".join(_label(name, power) for name, power in edit_request.edits.items())
        seconds = f"{time.monotonic() - start:.2f} s"
        return {
            self.compare: (str(result.before), str(result.after)),
            self.picture: gr.DownloadButton(value=str(result.after), interactive=True),
            self.settings: gr.DownloadButton(value=str(result.settings), interactive=True),
            self.mask_file: gr.DownloadButton(value=result.mask and str(result.mask), visible=bool(result.mask)),
            self.status: f"{html.escape(edits)} · {seconds}" if edits else "The inversion, without edits",
        }


def _visitor(request: gr.Request) -> str:
    return str(request.session_hash)


def _label(name: str, power: float) -> str:
    return f"{name} {power:+g}"


def _parsed(label: str) -> tuple[str, float]:
    name, _, power = label.rpartition(" ")
    return name, float(power)


def serve(studio: Studio, port: int, share: bool) -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C. Raises UserError if the port cannot be used."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses twice as many; gradio opens painted masks by Pillow
    page = Page(studio).blocks
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=1, api_open=False)
    logger.info("the page: http://127.0.0.1:%d (Ctrl-C ends it)", port)
    page.launch(
        server_name="127.0.0.1", server_port=port, share=share, theme=THEME, css=CSS, show_error=False,
        max_file_size=MAX_BYTES, allowed_paths=[], state_session_capacity=64, ssr_mode=False, enable_monitoring=False,
        run_history=False, footer_links=[], quiet=True, app_kwargs={"middleware": [Middleware(NoAddresses)]},
    )  # fmt: skip
