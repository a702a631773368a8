"""The layout of the web page: the picture, and beside or below it all that changes it."""

import html
from pathlib import Path
from typing import Any

import gradio as gr

from arguments.flags import MASK_TRASHOLD
from runners.app.settings import AUTOMATIC, NO_MASK, PAINTED, UPLOADED
from runners.app.sliders import Direction, Slider, family_name
from runners.app.studio import MAX_BYTES, Studio
from runners.app.visit import DOWNLOADS

_SYSTEM = ["system-ui", "sans-serif"]  # nothing is fetched from the internet
THEME = gr.themes.Soft(
    primary_hue="indigo", neutral_hue="slate", radius_size="md", font=_SYSTEM, font_mono=["ui-monospace", "monospace"]
).set(
    block_title_background_fill="none", block_title_background_fill_dark="none", block_title_padding="0",
    block_title_text_color="*body_text_color", block_title_text_color_dark="*body_text_color",
    block_title_text_weight="500", block_shadow="none",
)  # fmt: skip
CSS = Path(__file__).with_name("page.css")
# Before and after, divided by a line that is moved with a range input: pointer, fingers and arrow keys all work.
_COMPARE = """<div class="compare" role="group" aria-label="Picture before and after the edit">
<img src="${value ? value.after : ''}" alt="${value ? 'after: ' + value.words : ''}">
<img src="${value ? value.before : ''}" alt="${value ? 'before' : ''}" class="before">
<span class="line"></span><b>before</b><b class="end">after</b>
<input type="range" min="0" max="100" value="50" aria-label="Line between before and after, in percent"></div>"""
_ON_COMPARE = """element.addEventListener('input', event =>
element.style.setProperty('--at', event.target.value + '%'));"""
_ANNOUNCED = "element.setAttribute('role', 'status')"  # screen readers read what is written here
# What gradio does not tell screen readers, or not well: whether a section is open, and what a control is for.
DESCRIBE = """() => {
const describe = () => {
  for (const button of document.querySelectorAll('.section > .label-wrap'))
    button.setAttribute('aria-expanded', button.classList.contains('open'));
  for (const slider of document.querySelectorAll('.edit'))
    slider.querySelector('.reset-button')?.setAttribute('aria-label',
      'Reset ' + slider.querySelector('[data-testid=block-info]').textContent);
  document.querySelector('#photograph button')?.setAttribute('aria-label', 'Photograph: click on a face to edit it');
  document.querySelector('#canvas [data-testid=image]')?.setAttribute('aria-label', 'Paint over what should stay');
  for (const sample of document.querySelectorAll('.samples .thumbnail-item'))
    sample.ariaLabel = sample.ariaLabel.replace('Thumbnail', 'Sample');
};
new MutationObserver(describe).observe(document.body, {subtree: true, childList: true, attributeFilter: ['class']});
describe() }"""
_OPEN_SLIDERS = 8  # groups are open until there are so many


class Layout:
    """The components of a studio's page; `blocks` is what gradio serves."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.aligned = studio.domain.alignment is not None
        self.rows: list[tuple[Slider, gr.Slider]] = []
        self.columns: dict[str, gr.Column] = {}  # of file boxes, by their elem_id
        self.families: dict[str, gr.Dropdown] = {}  # by trait, where several families have it
        title = f"StyleFeatureEditor · {studio.domain.name}"
        with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 6 * 3600)) as self.blocks:
            method = f"{studio.domain.name}, {studio.domain.generator.size} px, on {studio.runner.method.device}"
            gr.HTML(f"<h1>StyleFeatureEditor</h1><p>{html.escape(method)}</p>", elem_id="head")
            with gr.Row(elem_id="studio"):
                with gr.Column(elem_id="result", min_width=0):
                    self._lay_result()
                with gr.Column(elem_id="controls", min_width=0):
                    self._lay_source()
                    with gr.Tabs(elem_id="tabs"):
                        with gr.Tab("Edit", id="edit") as self.edit_tab:
                            self._lay_edits()
                            self._lay_words()
                            self._lay_mask()
                            self._lay_families()
                            self._lay_downloads()
                        with gr.Tab("Mix two pictures", id="mix") as self.mix_tab:
                            self._lay_mix()
            self.link = gr.Textbox(visible="hidden", elem_id="link")
            self.file = gr.File(visible="hidden", elem_id="file")
        self.sliders = [box for _, box in self.rows]
        self.words_inputs = [self.words_family, self.neutral, self.target, self.number, self.power]
        self.inputs: set[gr.blocks.Block] = {
            *self.sliders, *self.families.values(), *self.words_inputs, self.mask, self.threshold,
        }  # fmt: skip
        self.results: list[gr.blocks.Block] = [
            self.compare, self.photograph, self.status, self.link, self.undo, self.redo
        ]  # fmt: skip

    def _lay_result(self) -> None:
        with gr.Column(elem_id="picture", min_width=0):
            self.compare = gr.HTML(None, html_template=_COMPARE, js_on_load=_ON_COMPARE, elem_id="compare")
            with gr.Row(elem_id="history"):
                small: dict[str, Any] = {"size": "sm", "min_width": 0}
                self.undo = gr.Button("↶ Undo", interactive=False, elem_id="undo", **small)
                self.redo = gr.Button("↷ Redo", interactive=False, elem_id="redo", **small)
                self.reset = gr.Button("Reset all", elem_id="reset", **small)
                self.copy = gr.Button("Copy link", elem_id="copy", **small)
            self.status = gr.HTML("Opening a sample …", js_on_load=_ANNOUNCED, elem_id="status")
        self.photograph = gr.Image(
            label="Whole photograph", type="filepath", interactive=False, visible=False, buttons=[],
            elem_id="photograph",
        )  # fmt: skip

    def _lay_source(self) -> None:
        with gr.Accordion("Picture", elem_classes="section", elem_id="source"):
            self.upload = self._file_box("upload", f"Your picture, or its inversion file, up to {MAX_BYTES >> 20} MB")
            self.samples = self._samples("samples", "Samples")
            self.face = gr.Radio([], label="Face, from left to right", visible=False, elem_id="face",
                                 info="or click on it in the photograph")  # fmt: skip
            info = "the largest one; leave this out for a picture that is cut out already"
            self.align = gr.Checkbox(
                self.aligned, label="Cut out the face", info=info, visible=self.aligned, elem_id="align"
            )

    def _file_box(self, elem_id: str, label: str, visible: bool = True) -> gr.File:
        """A box for an upload; its label is above it, as gradio's would lie over the box's own text."""
        with gr.Column(visible=visible, elem_classes="upload", min_width=0) as column:
            gr.HTML(html.escape(label), elem_classes="caption")
            box = gr.File(label=label, show_label=False, height=96, elem_id=elem_id)
        self.columns[elem_id] = column
        return box

    def _samples(self, elem_id: str, label: str) -> gr.Gallery:
        return gr.Gallery(
            [str(path) for path in self.studio.samples], label=label, show_label=False, allow_preview=False,
            interactive=False, visible=bool(self.studio.samples), buttons=[], object_fit="cover", columns=6,
            height="auto", elem_id=elem_id, elem_classes="samples",
        )  # fmt: skip

    def _lay_edits(self) -> None:
        for heading, sliders in self.studio.sliders.items():
            is_open = not self.rows or len(self.rows) + len(sliders) <= _OPEN_SLIDERS
            with gr.Accordion(heading, open=is_open, elem_classes="section", elem_id=f"group_{heading.lower()}"):
                for slider in sliders:
                    options = self.slider(slider, slider.directions[0])
                    box = gr.Slider(**options, buttons=["reset"], elem_id=f"edit_{slider.trait}", elem_classes="edit")
                    self.rows.append((slider, box))

    def _lay_words(self) -> None:
        names = list(self.studio.text_families)
        with gr.Accordion(
            "In your own words", open=False, visible=bool(names), elem_classes="section", elem_id="words_section"
        ):
            self.problem = gr.Markdown(self.problem_of(names[0]) if names else "")
            self.words_family = gr.Radio(
                [(family_name(name), name) for name in names], value=names[0] if names else None, label="Made by",
                visible=len(names) > 1, elem_id="words_family",
            )  # fmt: skip
            with gr.Row():
                self.neutral = gr.Textbox("face", label="It is", max_length=200, min_width=130)
                self.target = gr.Textbox("smiling face", label="It should be", max_length=200, min_width=130)
                self.number = gr.Number(0.1, label="Threshold", minimum=0, maximum=10, step=0.01, min_width=80)
            options = self.words_slider(names[0]) if names else {"minimum": -1, "maximum": 1, "value": 0}
            self.power = gr.Slider(**options, buttons=["reset"], elem_id="words_power", elem_classes="edit")

    def _lay_mask(self) -> None:
        kinds = [("nothing", NO_MASK), ("the background", AUTOMATIC), ("what I paint", PAINTED), ("a file", UPLOADED)]
        if not self.aligned:
            del kinds[1]  # it needs a face
        with gr.Accordion("Mask: what stays unedited", open=False, elem_classes="section", elem_id="mask_section"):
            self.mask = gr.Radio(kinds, value=NO_MASK, label="Kind of mask", show_label=False, elem_id="mask")
            self.threshold = gr.Slider(
                0, 1, value=MASK_TRASHOLD, step=0.005, label="Least probability of background", visible=False,
                elem_id="threshold", elem_classes="edit", info="a lower one keeps more",
            )  # fmt: skip
            with gr.Column(visible=False, elem_classes="upload", min_width=0) as self.painting:
                gr.HTML("Paint over what should stay, then use the mask", elem_classes="caption")
                self.canvas = gr.ImageEditor(
                    type="pil", label="Paint over what should stay", show_label=False, sources=(), transforms=(),
                    layers=False, buttons=[], brush=gr.Brush(default_size=40, colors=["#f0386b"], color_mode="fixed"),
                    canvas_size=(512, 512), elem_id="canvas",
                )  # fmt: skip
                self.paint = gr.Button("Use the painted mask", size="sm", elem_id="paint")
            self.own_mask = self._file_box("own_mask", "A mask: what is white stays unedited", visible=False)

    def _lay_families(self) -> None:
        shared = [slider for slider, _ in self.rows if len(slider.directions) > 1]
        with gr.Accordion(
            "Which direction a slider uses", open=False, visible=bool(shared), elem_classes="section",
            elem_id="families_section",
        ):  # fmt: skip
            for slider in shared:
                choices = [(f"{direction.family}: {direction.name}", direction.name) for direction in slider.directions]
                self.families[slider.trait] = gr.Dropdown(
                    choices, value=choices[0][1], label=slider.label, filterable=False,
                    elem_id=f"family_{slider.trait}", elem_classes="family",
                )  # fmt: skip

    def _lay_downloads(self) -> None:
        with gr.Accordion("Download", elem_classes="section", elem_id="downloads"), gr.Row():
            self.downloads = {
                kind: gr.Button(text, size="sm", min_width=110, elem_id=f"download_{kind}",
                                visible=kind != "mask" and (kind != "photograph" or self.aligned))
                for kind, text in DOWNLOADS.items()
            }  # fmt: skip

    def _lay_mix(self) -> None:
        styles, layer = self.studio.domain.generator.n_styles, self.studio.domain.feature_layer
        gr.HTML("Your picture, without its edits, mixed with a second one.", elem_classes="caption")
        self.second = self._file_box("second", "The second picture, or its inversion file")
        self.second_samples = self._samples("second_samples", "Samples")
        self.share = gr.Slider(
            0, 1, value=0.5, step=0.01, label="Share of the second picture", elem_id="share", elem_classes="edit"
        )
        parts = [("everything", "all"), ("pose and shape", f"0-{layer - 1}"), ("colours", f"{layer}-{styles - 1}")]
        self.layers = gr.Radio(parts, value="all", label="What is mixed", elem_id="layers")
        with gr.Row():
            self.mixed_picture = gr.Button("Download picture", size="sm", min_width=110, elem_id="download_mixed")
            self.morph = gr.Button("Download GIF, there and back", size="sm", min_width=110, elem_id="download_morph")

    @staticmethod
    def slider(slider: Slider, direction: Direction, value: float = 0) -> dict[str, Any]:
        """Properties of the component, when this direction of the slider is chosen; any but the first is named."""
        return {
            "minimum": direction.least, "maximum": direction.most, "step": direction.step, "value": value,
            "label": slider.label, "info": "" if direction == slider.directions[0] else direction.family,
        }  # fmt: skip

    def words_slider(self, family: str, value: float = 0) -> dict[str, Any]:
        ((low, high),) = self.studio.text_families[family].directions.values()
        power = Slider("power", (Direction("", "", low, high),))
        return {**self.slider(power, power.directions[0], value), "interactive": not self.problem_of(family)}

    def problem_of(self, family: str) -> str:
        problem = self.studio.text_problem(family)
        return problem and f"Not available: {html.escape(problem)}"
