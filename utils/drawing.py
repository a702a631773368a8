"""Captioned images beside and above each other."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from utils.images import resize

TILE = 256  # px


def image_strip(images: Sequence[tuple[str, Image.Image]], tile: int = TILE) -> Image.Image:
    """Images side by side, each scaled to `tile` px under its caption, which is wrapped to that width."""
    font, line = ImageFont.load_default(tile * 14 / 256), tile * 18 // 256
    captions = [_wrap(caption, font, tile - line) for caption, _ in images]
    top = max(len(caption) for caption in captions) * line + line // 3
    strip = Image.new("RGB", (len(images) * tile, top + tile), "white")
    draw = ImageDraw.Draw(strip)
    for i, (caption, (_, image)) in enumerate(zip(captions, images, strict=True)):
        for j, text in enumerate(caption):
            draw.text((i * tile + line // 3, j * line + line // 5), text, fill="black", font=font)
        strip.paste(resize(image, tile), (i * tile, top))
    return strip


def image_grid(rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    """Captioned rows of images, each scaled to 256 px."""
    strips = [image_strip([(caption if i == 0 else "", image) for i, image in enumerate(images)])
              for caption, images in rows]  # fmt: skip
    return image_column(strips)


def image_column(images: Sequence[Image.Image]) -> Image.Image:
    """Images of any size above each other, unscaled."""
    column = Image.new("RGB", (max(image.width for image in images), sum(image.height for image in images)), "white")
    top = 0
    for image in images:
        column.paste(image, (0, top))
        top += image.height
    return column


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Lines of at most `width` px, broken at spaces; a longer word stays whole."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
