"""The settings of a visitor, read from the page's components and written to them."""

from typing import Any

import gradio as gr

from runners.app.layout import Layout
from runners.app.settings import AUTOMATIC, PAINTED, UPLOADED, Settings

Values = dict[Any, Any]  # component -> its value
Updates = dict[Any, Any]  # component -> its new value, or a component with its new properties


class Form(Layout):
    """What is set on the page."""

    def settings(self, values: Values) -> Settings:
        """What the components say."""
        edits = {}
        for slider, box in self.rows:
            if values[box]:
                family = self.families.get(slider.trait)
                edits[values[family] if family else slider.directions[0].name] = float(values[box])
        if values[self.power]:
            edits[self._words_name(values)] = float(values[self.power])
        return Settings(edits, values[self.mask], float(values[self.threshold]))

    def set(self, settings: Settings) -> Values:
        """What the components must say for these settings; of several families of one trait the first counts."""
        values: Values = {self.mask: settings.mask, self.threshold: settings.threshold}
        for slider, box in self.rows:
            chosen = next((d for d in slider.directions if d.name in settings.edits), slider.directions[0])
            values[box] = settings.edits.get(chosen.name, 0.0)
            if slider.trait in self.families:
                values[self.families[slider.trait]] = chosen.name
        values.update(self._words_values(settings))
        return values

    def filled(self, settings: Settings) -> Updates:
        """The components, showing these settings."""
        values = self.set(settings)
        updates = {**values, **self.mask_parts(settings.mask)}
        for slider, box in self.rows:
            if slider.trait in self.families:
                name = values[self.families[slider.trait]]
                direction = next(direction for direction in slider.directions if direction.name == name)
                updates[box] = gr.Slider(**self.slider(slider, direction, values[box]))
        if values[self.words_family]:
            updates.update(self.words_of(values[self.words_family], values[self.power]))
        return updates

    def mask_parts(self, kind: str) -> Updates:
        """The components that belong to a kind of mask."""
        return {
            self.threshold: gr.Slider(visible=kind == AUTOMATIC), self.painting: gr.Column(visible=kind == PAINTED),
            self.columns["own_mask"]: gr.Column(visible=kind == UPLOADED),
            self.downloads["mask"]: gr.Button(visible=kind in (PAINTED, UPLOADED)),
        }  # fmt: skip

    def words_of(self, family: str, power: float) -> Updates:
        """The components of edits in words, for a family."""
        problem = self.problem_of(family)
        texts = (self.neutral, gr.Textbox), (self.target, gr.Textbox), (self.number, gr.Number)
        return {
            self.problem: problem, self.power: gr.Slider(**self.words_slider(family, power)),
            **{box: kind(interactive=not problem) for box, kind in texts},
        }  # fmt: skip

    def _words_name(self, values: Values) -> str:
        """The name of the edit in words."""
        phrases = [str(values[box]).replace("_", " ").strip() for box in (self.neutral, self.target)]
        prefix = self.studio.text_families[values[self.words_family]].prefix
        return "_".join([prefix, *phrases, f"{values[self.number] or 0:g}"])

    def _words_values(self, settings: Settings) -> Values:
        names = list(self.studio.text_families)
        values: Values = {self.words_family: names[0] if names else None, self.power: 0.0}
        for family, texts in self.studio.text_families.items():
            for name, power in settings.edits.items():
                if texts.knows(name):
                    edit = texts.parse(name)
                    values.update({self.words_family: family, self.power: power, self.number: edit.threshold})
                    values.update({self.neutral: edit.neutral, self.target: edit.target})
        return values
