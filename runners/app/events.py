"""Events of the page besides opening and sliding: masks, downloads, and the mixture of two pictures."""

import html
import logging
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr

from runners.app.form import Form, Updates, Values
from runners.app.settings import NO_MASK, PAINTED, Settings
from runners.app.visit import Result
from utils.errors import UserError

logger = logging.getLogger(__name__)

COMPUTING: dict[str, Any] = {
    "concurrency_id": "computing", "concurrency_limit": 1, "api_visibility": "private"
}  # fmt: skip
# Not in that queue: a second image is refused at once and does not wait.
OPENING: dict[str, Any] = {"concurrency_limit": None, "trigger_mode": "multiple", "api_visibility": "private"}
PROGRESS = gr.Progress()
_SAVE = "file => { const a = document.createElement('a'); a.href = file.url; a.download = file.orig_name; a.click() }"


def shown(action: Callable[..., Any]) -> Callable[..., Any]:
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


def visitor_of(request: gr.Request) -> str:
    return str(request.session_hash)


def file_of(value: dict[str, Any]) -> tuple[Path, str]:
    """The path of an upload, and the visitor's name of it."""
    return Path(value["path"]), Path(str(value.get("orig_name") or "picture")).name


class Events(Form):
    """The page's images, and the events of masks, downloads and mixtures."""

    def connect_mask_and_files(self) -> None:
        computing = {**COMPUTING, "show_progress": "minimal", "show_progress_on": self.status}
        parts = [self.threshold, self.painting, self.columns["own_mask"], self.downloads["mask"], *self.results]
        self.mask.input(shown(self._change_mask), self.inputs, parts, **computing)
        self.paint.click(shown(self._paint), {*self.inputs, self.canvas}, parts, **computing)
        self.own_mask.upload(shown(self._upload_mask), {self.own_mask}, [], preprocess=False, **computing).success(
            shown(self._change_mask), self.inputs, parts, **computing
        )
        for kind, button in self.downloads.items():
            button.click(shown(self._downloading(kind)), self.inputs, self.file, **computing).success(
                None, self.file, None, js=_SAVE
            )

    def connect_mix(self) -> None:
        status: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": self.status}
        mixed: list[gr.blocks.Block] = [self.compare, self.status]
        given: set[gr.blocks.Block] = {self.share, self.layers, self.align}
        upload = {*given, self.second}
        self.second.upload(shown(self._open_second), upload, mixed, preprocess=False, **OPENING, **status)
        self.second_samples.select(shown(self._choose_second), given, mixed, **OPENING, **status)
        gr.on([self.share.input, self.layers.input, self.mix_tab.select], shown(self._mix), given, mixed,
              trigger_mode="always_last", show_progress="hidden", **COMPUTING)  # fmt: skip
        for button, action in ((self.mixed_picture, self._download_mixed), (self.morph, self._download_morph)):
            button.click(shown(action), given, self.file, **COMPUTING, **status).success(
                None, self.file, None, js=_SAVE
            )

    def edited(self, request: gr.Request, settings: Settings) -> Updates:
        """The results of these settings, which are added to the history."""
        with self.studio.using(visitor_of(request)) as visit:
            visit.history.add(settings)
            result, history = visit.edit(settings), visit.history
            can_undo, can_redo = history.can_undo, history.can_redo
        words = ", ".join(f"{name} {power:+g}" for name, power in settings.edits.items()) or "the inversion"
        return {
            **self._compared(result, words), self.link: settings.query(),
            self.photograph: gr.Image(str(result.photograph or "") or None, visible=bool(result.photograph)),
            self.undo: gr.Button(interactive=can_undo), self.redo: gr.Button(interactive=can_redo),
        }  # fmt: skip

    def _compared(self, result: Result, words: str) -> Updates:
        images = {name: f"gradio_api/file={getattr(result, name)}" for name in ("before", "after")}
        return {
            self.compare: {**images, "words": words},
            self.status: f"{html.escape(words)} · {result.seconds:.2f} s · {self.studio.memory() >> 20} MB",
        }

    def if_open(self, values: Values, request: gr.Request) -> Updates:
        """The results, or nothing if no image is open yet. A mask of the visitor's counts only once it exists."""
        visitor = visitor_of(request)
        if not self.studio.has_visit(visitor):
            return {}
        mask = values[self.mask] if self.studio.visit(visitor).has_mask(values[self.mask]) else NO_MASK
        return self.edited(request, self.settings({**values, self.mask: mask}))

    def _change_mask(self, values: Values, request: gr.Request) -> Updates:
        return {**self.mask_parts(values[self.mask]), **self.if_open(values, request)}

    def _paint(self, values: Values, request: gr.Request) -> Updates:
        self.studio.paint(visitor_of(request), (values[self.canvas] or {}).get("layers", []))
        return self._change_mask({**values, self.mask: PAINTED}, request)

    def _upload_mask(self, values: Values, request: gr.Request) -> None:
        self.studio.upload_mask(visitor_of(request), *file_of(values[self.own_mask]))

    def _downloading(self, kind: str) -> Callable[..., str]:
        def download(values: Values, request: gr.Request, progress: gr.Progress = PROGRESS) -> str:
            with self.studio.using(visitor_of(request)) as visit:
                return str(visit.download(kind, self.settings(values), progress))

        return download

    def _open_second(self, values: Values, request: gr.Request, progress: gr.Progress = PROGRESS) -> Updates:
        self.studio.open_second(visitor_of(request), file_of(values[self.second]), values[self.align], progress)
        return self._mixed(values, request)

    def _choose_second(
        self, values: Values, chosen: gr.SelectData, request: gr.Request, progress: gr.Progress = PROGRESS
    ) -> Updates:
        self.studio.open_second(visitor_of(request), int(chosen.index), values[self.align], progress)
        return self._mixed(values, request)

    def _mix(self, values: Values, request: gr.Request) -> Updates:
        return self._mixed(values, request) or gr.skip()

    def _mixed(self, values: Values, request: gr.Request) -> Updates:
        """The mixture; nothing as long as there are no two pictures."""
        if not self.studio.has_visit(visitor_of(request)):
            return {}
        with self.studio.using(visitor_of(request)) as visit:
            if visit.second is None:
                return {self.status: "Choose the second picture."}
            name, result = visit.second.name, visit.mix(values[self.share], values[self.layers])
        return self._compared(result, f"{values[self.share]:.0%} of {Path(name).name}")

    def _download_mixed(self, values: Values, request: gr.Request) -> str:
        with self.studio.using(visitor_of(request)) as visit:
            return str(visit.mix(values[self.share], values[self.layers]).after)

    def _download_morph(self, values: Values, request: gr.Request) -> str:
        with self.studio.using(visitor_of(request)) as visit:
            return str(visit.morph(values[self.layers]))
