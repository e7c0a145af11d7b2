"""What a cell printed and drew, in the form that is stored: nothing of one run or one machine."""

import base64
import io
import re
import tempfile
from pathlib import Path

from nbformat import NotebookNode
from PIL import Image, ImageChops, ImageStat

from dlrm_mini.course import notebook
from dlrm_mini.paths import checkout

WIDGET = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(r"\bat 0x[0-9A-Fa-f]{6,16}\b")
CELL_FILE = re.compile(r"\S*[/\\]ipykernel_\d+[/\\]+\d+\.py")  # how a warning names a cell
PALETTE_LOSS = 0.25  # of 255, mean over the picture; plots lose under 0.1, photographs over 1
SOMEBODYS = re.compile(
    r"(?<![\w.])(?:/(?:home|Users)/[\w.-]+|/root(?=/)|/tmp/[\w.-]+|/var/folders/)[^\s'\"<>)]*"
    r"|\b[A-Za-z]:[\\/]+Users[\\/][^\s'\"<>)]*"
)


def clean(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs as they are stored.

    Streams of one name are merged at the first one's place (how a kernel cuts them is chance), with
    carriage returns applied; memory addresses and names of temporary files are replaced; a widget,
    whose id is random, leaves only its text; pictures lose their metadata but the description.
    """
    cleaned: list[NotebookNode] = []
    streams: dict[str, NotebookNode] = {}
    for output in outputs:
        new = notebook.node(output)
        if new.output_type == "stream":
            if new.name in streams:
                streams[new.name].text += new.text
                continue
            streams[new.name] = new
        elif new.output_type == "error":
            new.traceback = [anonymous(line) for line in new.traceback]
            new.evalue = anonymous(new.evalue)
        else:
            new.data = notebook.node(
                {mime: _value(mime, data) for mime, data in new.data.items() if mime != WIDGET}
            )
            words = alternative(new)
            new.metadata = notebook.node({"image/png": {"alt": words}} if words else {})
            new.pop("transient", None)
        cleaned.append(new)
    for stream in streams.values():
        stream.text = anonymous(re.sub(r"^.*\r(?=[^\n])", "", stream.text, flags=re.MULTILINE))
    return cleaned


def anonymous(text: str) -> str:
    """Text without memory addresses and without the temporary file names that stand for cells."""
    return CELL_FILE.sub("<cell>", ADDRESS.sub("at 0x...", text))


def alternative(output: NotebookNode) -> str:
    """What stands for an output's picture where it cannot be seen; "" when nothing does."""
    about = output.get("metadata", {}).get("image/png", {})
    return anonymous(str(about.get("alt", "")))


def texts(output: NotebookNode) -> list[str]:
    """Every readable text of an output."""
    if output.output_type == "stream":
        return [output.text]
    if output.output_type == "error":
        return [output.evalue, *output.traceback]
    return [data for mime, data in output.data.items() if mime.startswith("text/")]


def machine_paths(text: str) -> list[str]:
    """The absolute paths of one machine: homes, temporary folders, this checkout."""
    found = SOMEBODYS.findall(text)
    for here in (checkout(), Path.home(), Path(tempfile.gettempdir())):
        if here is None or len(here.parts) < 2:
            continue
        for spelling in {str(here), here.as_posix(), str(here).replace("\\", "\\\\")}:
            if re.search(rf"(?<![\w.]){re.escape(spelling)}(?![\w.-])", text):
                found.append(spelling)
    return sorted(set(found))


def decode(data: str) -> Image.Image:
    """The picture of an `image/png` output."""
    return Image.open(io.BytesIO(base64.b64decode(data)))


def _value(mime: str, data: object) -> object:
    if mime == "image/png":
        return _plain_png(str(data))
    return anonymous(data) if isinstance(data, str) and mime.startswith("text/") else data


def _plain_png(data: str) -> str:
    """The same picture without the writing program's name, in a palette if that hides nothing.

    A palette of 256 colours makes a plot less than half as large. A picture that is in its final
    form comes back byte for byte.
    """
    picture = decode(data)
    if picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")
    if picture.mode == "RGB":
        small = picture.quantize(256, dither=Image.Dither.NONE)
        lost = ImageStat.Stat(ImageChops.difference(picture, small.convert("RGB"))).mean
        picture = small if max(lost) <= PALETTE_LOSS else picture
    if decode(data).mode == picture.mode and not decode(data).info:
        return data
    stored = io.BytesIO()
    picture.save(stored, "PNG", optimize=True)
    return base64.b64encode(stored.getvalue()).decode("ascii")
