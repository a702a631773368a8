"""The layout of the web page."""

import html
import math
from typing import Any

import gradio as gr

from runners.app.studio import MAX_BYTES, Direction, Studio
from runners.app.visit import AUTOMATIC, NO_MASK, PAINTED, UPLOADED

_SYSTEM = ["system-ui", "sans-serif"]  # nothing is fetched from the internet
THEME = gr.themes.Soft(
    primary_hue="indigo", neutral_hue="slate", radius_size="md", font=_SYSTEM, font_mono=["ui-monospace", "monospace"]
)
CSS = """
.gradio-container { max-width: 1360px !important; width: 100%; margin: auto }
#upload .icon-wrap, #own_mask .icon-wrap { display: none }
#head h1 { margin: 0; font-size: 1.5rem } #head p { margin: 0; opacity: .7 }
#status { min-height: 1.6em } #status p { margin: 0; opacity: .8 }
.section > .label-wrap { font-weight: 600 }
#result { position: sticky; top: 12px; align-self: flex-start }
footer, [data-testid=status-tracker]:has(> .error) { display: none !important }
"""


class Layout:
    """The components of a studio's page; `blocks` is what gradio serves."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        title = f"StyleFeatureEditor · {studio.domain.name}"
        with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 6 * 3600)) as self.blocks:
            method = f"{studio.domain.name}, {studio.domain.generator.size} px, on {studio.runner.method.device}"
            gr.HTML(f"<h1>StyleFeatureEditor</h1><p>{html.escape(method)}</p>", elem_id="head")
            with gr.Row():
                with gr.Column(scale=2, min_width=380):
                    self._lay_image()
                    self._lay_edit()
                    self._lay_mask()
                with gr.Column(scale=3, min_width=420, elem_id="result"):
                    self._lay_result()
            self.inputs: set[gr.blocks.Block] = {
                self.family, self.direction, self.neutral, self.target, self.number, self.power, self.stack, self.mask,
                self.threshold, self.whole,
            }  # fmt: skip
            files = [self.picture, self.settings, self.mask_file]
            self.results: list[gr.blocks.Block] = [self.compare, *files, self.status]

    def _lay_image(self) -> None:
        aligned = self.studio.domain.alignment is not None
        with gr.Accordion("Picture", elem_classes="section"):
            limit = f"Upload an image (up to {MAX_BYTES >> 20} MB)"
            self.upload = gr.File(label=limit, height=110, elem_id="upload")
            samples = [str(path) for path in self.studio.samples]
            self.samples = gr.Gallery(
                samples, label="or choose a sample", columns=5, fit_columns=False, height=130, allow_preview=False,
                interactive=False, visible=bool(samples), buttons=[], object_fit="cover", elem_id="samples",
            )  # fmt: skip
            info = "cuts out the largest face; leave it out for images that are aligned crops"
            self.align = gr.Checkbox(aligned, label="Align", info=info, visible=aligned, elem_id="align")

    def _lay_edit(self) -> None:
        families = list(self.studio.families)
        words = families[0] in self.studio.text_families
        with gr.Accordion("Edit", elem_classes="section"):
            self.family = gr.Radio(families, value=families[0], label="Family", elem_id="family")
            names = [direction.name for direction in self.studio.families[families[0]]]
            self.direction = gr.Radio(names, value=names[0], label="Direction", visible=not words, elem_id="direction")
            with gr.Column(visible=words) as self.words:
                self.problem = gr.Markdown()
                with gr.Row():
                    self.neutral = gr.Textbox("face", label="It is", max_length=200, min_width=100)
                    self.target = gr.Textbox("smiling face", label="It should be", max_length=200, min_width=100)
                    self.number = gr.Number(0.1, label="Threshold", minimum=0, maximum=10, step=0.01, min_width=80)
            self.power = gr.Slider(**self.slider(families[0], names[0]), elem_id="power")
            self.labels = gr.State([])
            self.stack = gr.CheckboxGroup([], label="Stacked edits", visible=False, elem_id="stack")
            with gr.Row():
                self.add = gr.Button("Add to the stack", size="sm", min_width=110, elem_id="add")
                self.remove = gr.Button("Remove unticked", size="sm", min_width=110, elem_id="remove")
                self.clear = gr.Button("Clear", size="sm", min_width=60, elem_id="clear")

    def _lay_mask(self) -> None:
        kinds = [NO_MASK, AUTOMATIC, PAINTED, UPLOADED]
        if self.studio.domain.alignment is None:
            kinds.remove(AUTOMATIC)  # it needs a face
        with gr.Accordion("Mask: what stays unedited", open=False, elem_classes="section", elem_id="mask_section"):
            self.mask = gr.Radio(kinds, value=NO_MASK, show_label=False, elem_id="mask")
            self.threshold = gr.Slider(
                0, 1, value=0.095, step=0.005, label="From this probability of background on", visible=False
            )
            with gr.Column(visible=False) as self.painting:
                self.canvas = gr.ImageEditor(
                    type="pil", label="Paint over what to keep", sources=(), transforms=(), layers=False, buttons=[],
                    brush=gr.Brush(default_size=40, colors=["#f0386b"], color_mode="fixed"), canvas_size=(512, 512),
                    elem_id="canvas",
                )  # fmt: skip
                self.paint = gr.Button("Use the painted mask", size="sm", elem_id="paint")
            self.own_mask = gr.File(label="White stays unedited", height=110, visible=False, elem_id="own_mask")

    def _lay_result(self) -> None:
        self.compare = gr.ImageSlider(
            label="Before | after", interactive=False, type="filepath", buttons=["fullscreen"], height=560,
            max_height=560, elem_id="compare",
        )  # fmt: skip
        self.status = gr.Markdown("Choose an image to begin.", elem_id="status")
        with gr.Row():
            self.whole = gr.Checkbox(label="Show the whole photograph", visible=False, elem_id="whole")
            self.picture = gr.DownloadButton("Download image", size="sm", interactive=False, elem_id="picture")
            self.settings = gr.DownloadButton("Download settings", size="sm", interactive=False, elem_id="settings")
            self.mask_file = gr.DownloadButton("Download mask", size="sm", visible=False, elem_id="mask_file")
        with gr.Accordion("Strength sweep", open=False, elem_classes="section", elem_id="sweep_section"):
            self.sweep = gr.Button("Show this direction from its lowest to its highest power", elem_id="sweep")
            self.strip = gr.Image(
                label="Strip", show_label=False, type="filepath", interactive=False, visible=False,
                buttons=["download", "fullscreen"], elem_id="strip",
            )  # fmt: skip
            self.gif = gr.Image(
                label="GIF", show_label=False, type="filepath", interactive=False, visible=False, height=320,
                buttons=["download"], elem_id="gif",
            )  # fmt: skip

    def slider(self, family: str, name: str) -> dict[str, Any]:
        direction = self.find(family, name)
        label = f"{direction.name}: useful powers {direction.low:g} to {direction.high:g}"
        if family in self.studio.text_families:
            label = f"Power: useful are {direction.low:g} to {direction.high:g}"
        step = 10 ** math.floor(math.log10((direction.high - direction.low) / 20))
        bounds = {"minimum": min(direction.low, 0), "maximum": max(direction.high, 0), "step": step}
        return {**bounds, "value": 0, "label": label, "interactive": not self.problem_of(family)}

    def find(self, family: str, name: str) -> Direction:
        directions = {direction.name: direction for direction in self.studio.families[family]}
        return directions.get(name) or next(iter(directions.values()))

    def problem_of(self, family: str) -> str:
        return self.studio.text_problem(family) if family in self.studio.text_families else ""
