"""The web page's events: each calls the studio, and returns what to show."""

import html
import logging
from collections.abc import Callable

import gradio as gr
from PIL import Image
from starlette.middleware import Middleware

from runners.app.events import COMPUTING, OPENING, PROGRESS, Events, Updates, Values, file_of, shown, visitor_of
from runners.app.guard import NoAddresses
from runners.app.layout import CSS, DESCRIBE, THEME
from runners.app.settings import Settings, read_query
from runners.app.sliders import Slider
from runners.app.studio import MAX_BYTES, Studio
from utils.images import MAX_PIXELS

logger = logging.getLogger(__name__)

MAX_WAITING = 16  # requests
_READ_ADDRESS = "() => [location.search]"
_WRITE_ADDRESS = "query => history.replaceState(null, '', location.pathname + (query && '?' + query))"
_COPY_ADDRESS = "() => { navigator.clipboard?.writeText(location.href) }"


class Page(Events):
    """The page of a studio, with its events."""

    def __init__(self, studio: Studio) -> None:
        super().__init__(studio)
        self.everything = [
            *self.results, *self.sliders, *self.families.values(), *self.words_inputs, self.problem, self.mask,
            self.threshold, self.painting, self.columns["own_mask"], self.downloads["mask"],
        ]  # fmt: skip
        with self.blocks:
            self._connect_pictures()
            self._connect_edits()
            self.connect_mask_and_files()
            self.connect_mix()
            self.blocks.unload(self._leave)

    def _connect_pictures(self) -> None:
        opened = [*self.everything, self.canvas, self.face, self.downloads["photograph"]]
        opening = {**OPENING, "show_progress": "minimal", "show_progress_on": self.status}
        given = {*self.inputs, self.align}
        self.blocks.load(shown(self._begin), {self.link}, opened, js=_READ_ADDRESS, **opening)
        self.upload.upload(shown(self._open), {*given, self.upload}, opened, preprocess=False, **opening)
        self.samples.select(shown(self._choose), given, opened, **opening)
        self.align.input(shown(self._realign), given, opened, **opening)
        self.photograph.select(shown(self._click_face), self.inputs, opened, **opening)
        self.face.input(shown(self._choose_face), {*self.inputs, self.face}, opened, **opening)

    def _connect_edits(self) -> None:
        computing = {**COMPUTING, "show_progress": "hidden"}
        live = [box.input for box in (*self.sliders, self.power)] + [self.threshold.input]
        live += [box.release for box in (*self.sliders, self.power)]  # the reset button gives no input
        live += [box.submit for box in (self.neutral, self.target, self.number)]
        gr.on(live, shown(self._edit), self.inputs, self.results,
              trigger_mode="always_last", **computing)  # fmt: skip
        for slider, box in self.rows:
            if slider.trait in self.families:
                family = self.families[slider.trait]
                change = shown(self._changing_family(slider, box, family))
                family.input(change, self.inputs, [box, *self.results], **computing)
        words = [self.problem, self.neutral, self.target, self.number, self.power, *self.results]
        self.words_family.input(shown(self._change_words), self.inputs, words, **computing)
        self.reset.click(shown(self._reset), self.inputs, self.everything, **computing)
        for button, by in ((self.undo, -1), (self.redo, 1)):
            button.click(shown(self._moving(by)), None, self.everything, **computing)
        # Not with the inputs: gradio selects the tab at first, when they are not filled in yet.
        self.edit_tab.select(shown(self._moving(0)), None, self.everything, **computing)
        self.link.change(None, self.link, None, js=_WRITE_ADDRESS)
        self.copy.click(self._copied, None, None, js=_COPY_ADDRESS, api_visibility="private", queue=False)

    def _begin(self, values: Values, request: gr.Request, progress: gr.Progress = PROGRESS) -> Updates:
        """The first sample, edited as the link says, or else a little."""
        settings, problems = read_query(str(values[self.link] or ""), self.studio.clamped)
        for problem in problems:
            gr.Warning(html.escape(f"This link does not fit: {problem}"))
        if not self.studio.samples:
            return {**self.filled(settings), self.status: "Upload a picture to begin."}
        if settings == Settings():
            settings = self._example()
        self.studio.open_sample(visitor_of(request), 0, self.aligned, self.settings(self.set(settings)), progress)
        return self._opened(request)

    def _example(self) -> Settings:
        """A first edit that shows what the page does."""
        groups = self.studio.sliders
        group = groups.get("Expression") or next(iter(groups.values()), [])
        return Settings({slider.directions[0].name: slider.directions[0].high / 2 for slider in group[:1]})

    def _open(self, values: Values, request: gr.Request, progress: gr.Progress = PROGRESS) -> Updates:
        upload, name = file_of(values[self.upload])
        align = bool(values[self.align])
        self.studio.open(visitor_of(request), upload, name, align, self.settings(values), progress)
        return self._opened(request)

    def _choose(
        self, values: Values, chosen: gr.SelectData, request: gr.Request, progress: gr.Progress = PROGRESS
    ) -> Updates:
        align, settings = bool(values[self.align]), self.settings(values)
        self.studio.open_sample(visitor_of(request), int(chosen.index), align, settings, progress)
        return self._opened(request)

    def _realign(self, values: Values, request: gr.Request, progress: gr.Progress = PROGRESS) -> Updates:
        if not self.studio.has_visit(visitor_of(request)):
            return gr.skip()
        self.studio.reopen(visitor_of(request), bool(values[self.align]), self.settings(values), progress)
        return self._opened(request)

    def _click_face(
        self, values: Values, place: gr.SelectData, request: gr.Request, progress: gr.Progress = PROGRESS
    ) -> Updates:
        picture = self.studio.visit(visitor_of(request)).picture
        return self._with_face(values, picture.face_at(*place.index) if picture.face else None, request, progress)

    def _choose_face(self, values: Values, request: gr.Request, progress: gr.Progress = PROGRESS) -> Updates:
        return self._with_face(values, int(values[self.face]), request, progress)

    def _with_face(self, values: Values, number: int | None, request: gr.Request, progress: gr.Progress) -> Updates:
        if number is None or number == self.studio.visit(visitor_of(request)).picture.face:
            return gr.skip()
        self.studio.choose_face(visitor_of(request), number, self.settings(values), progress)
        return self._opened(request)

    def _opened(self, request: gr.Request) -> Updates:
        """The page of an image that has just been opened: what was set is applied to it."""
        with self.studio.using(visitor_of(request)) as visit:
            canvas, picture, settings = str(visit.canvas()), visit.picture, visit.history.current
        faces = [str(number + 1) for number in range(len(picture.faces))] if picture.face else []
        return {
            **self.edited(request, settings), **self.filled(settings),
            self.canvas: {"background": canvas, "layers": [], "composite": canvas},
            self.face: gr.Radio(choices=faces, value=picture.face and str(picture.face), visible=bool(faces)),
            self.downloads["photograph"]: gr.Button(visible=picture.photo.quad is not None),
        }  # fmt: skip

    def _edit(self, values: Values, request: gr.Request) -> Updates:
        return self.if_open(values, request) or gr.skip()

    def _changing_family(
        self, slider: Slider, box: gr.Slider, family: gr.Dropdown
    ) -> Callable[[Values, gr.Request], Updates]:
        def change(values: Values, request: gr.Request) -> Updates:
            direction = next(direction for direction in slider.directions if direction.name == values[family])
            values[box] = 0
            return {box: gr.Slider(**self.slider(slider, direction)), **self.if_open(values, request)}

        return change

    def _change_words(self, values: Values, request: gr.Request) -> Updates:
        family, values[self.power] = values[self.words_family], 0
        return {**self.words_of(family, 0), **self.if_open(values, request)}

    def _reset(self, values: Values, request: gr.Request) -> Updates:
        settings = Settings({}, self.settings(values).mask, values[self.threshold])
        return {**self.filled(settings), **self.if_open({**values, **self.set(settings)}, request)}

    def _moving(self, by: int) -> Callable[[gr.Request], Updates]:
        def move(request: gr.Request) -> Updates:
            if not self.studio.has_visit(visitor_of(request)):
                return gr.skip()
            with self.studio.using(visitor_of(request)) as visit:
                settings = visit.history.move(by)
            return {**self.filled(settings), **self.edited(request, settings)}

        return move

    def _copied(self) -> None:
        gr.Info("The link is in your clipboard, and in the address bar: it opens this page with these settings.")

    def _leave(self, request: gr.Request) -> None:
        self.studio.close(visitor_of(request))


def serve(studio: Studio, port: int, share: bool) -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C. Raises UserError if the port cannot be used."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses twice as many; gradio opens painted masks by Pillow
    page = Page(studio).blocks
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=1, api_open=False)
    logger.info("the page: http://127.0.0.1:%d (Ctrl-C ends it)", port)
    page.launch(
        server_name="127.0.0.1", server_port=port, share=share, theme=THEME, css_paths=CSS, js=DESCRIBE,
        show_error=False, max_file_size=MAX_BYTES, allowed_paths=[], state_session_capacity=64, ssr_mode=False,
        enable_monitoring=False, run_history=False, footer_links=[], quiet=True,
        app_kwargs={"middleware": [Middleware(NoAddresses)]},
    )  # fmt: skip
