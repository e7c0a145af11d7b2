"""Tiny notebooks for the tests, as they would be committed."""

import base64
import io

from PIL import Image, ImageDraw

from dlrm_mini.course import chapters, generated, lint, notebook
from dlrm_mini.course.compare import VOLATILE


def markdown(source, **tagged):
    return notebook.node({"cell_type": "markdown", "metadata": dict(tagged), "source": source})


def questions(number=8):
    """The cell that ends a chapter."""
    one = "<details><summary>Why?</summary>\n\nSo.\n</details>"
    return markdown("\n\n".join(["## Questions", *[one] * number]), tags=["questions"])


def code(source, *outputs, tags=()):
    metadata = {"tags": list(tags)} if tags else {}
    if VOLATILE & set(tags):
        metadata["made_from"] = lint.source_digest(source)
    return notebook.node(
        {
            "cell_type": "code",
            "execution_count": None,
            "metadata": metadata,
            "outputs": list(outputs),
            "source": source,
        }
    )


def stream(text, name="stdout"):
    return notebook.node({"output_type": "stream", "name": name, "text": text})


def shown(**data):
    """A displayed output: `shown(text_plain="1", image_png=...)`; a picture has a description."""
    named = {mime.replace("_", "/", 1): value for mime, value in data.items()}
    words = {"image/png": {"alt": "A dark bar."}} if "image_png" in data else {}
    return notebook.node({"output_type": "display_data", "data": named, "metadata": words})


def png(level=20, size=(96, 64)):
    """A white picture with one dark bar of that height, in base64."""
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).rectangle([40, size[1] - level, 56, size[1]], fill="navy")
    packed = io.BytesIO()
    picture.save(packed, "PNG")
    return base64.b64encode(packed.getvalue()).decode()


def write(folder, name, cells):
    """Write `folder/notebooks/NAME.ipynb`, its cells counted as if just run; nothing generated."""
    path = folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nb = notebook.node({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    notebook.normalise(nb)
    for count, (_, cell) in enumerate(notebook.code_cells(nb), start=1):
        cell.execution_count = count
    notebook.save(path, nb)
    return path


def commit(folder, name, cells):
    """Write a chapter with its generated cells and questions, padded to the size of chapter 00."""
    path = write(folder, name, cells)
    padding = [markdown("More words.") for _ in range(12 - len(cells) - 4)]
    nb = notebook.node({"cells": [*cells, *padding, questions()], "metadata": {}})
    generated.refresh(nb, chapters.find(name[:2], path.parent), generated.public_address())
    return write(folder, name, nb.cells)
