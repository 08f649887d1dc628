"""Make a small stand-in for the data that a public program would download, in the current folder.

    python make_data.py words|cora|images|text

All of it is random with a fixed seed, in the file format that the program reads.
"""

from __future__ import annotations

import io
import random
import sys
import tarfile
from pathlib import Path

import numpy
from PIL import Image


def words() -> None:
    """Sentences of 60 words (`words/*.txt`), the same as token numbers (`words/*.bin`), also under `data`."""
    draw = random.Random(0)
    vocabulary = [f"w{number}" for number in range(60)]
    for folder in (Path("words"), Path("data/words"), Path("data/wikitext-2"), Path("data")):
        folder.mkdir(parents=True, exist_ok=True)
        for name, lines in (("train", 120), ("valid", 40), ("val", 40), ("test", 40)):
            text = "\n".join(" ".join(draw.choices(vocabulary, k=12)) for _ in range(lines))
            (folder / f"{name}.txt").write_text(f"{text}\n")
            numpy.array([int(word[1:]) for word in text.split()], numpy.uint16).tofile(
                folder / f"{name}.bin"
            )


def text() -> None:
    """Characters to learn, in `input.txt`."""
    draw = random.Random(0)
    Path("input.txt").write_text(
        "O God, O God! " + "".join(draw.choices("abcdefgh !,\n", k=2000)) + "OGd"
    )


def cora(papers: int = 1700, features: int = 32) -> None:
    """A random graph of papers in the format of Cora, as a folder and as the archive that a download would be."""
    draw = numpy.random.default_rng(0)
    names = "\n".join(
        f"{paper + 1}\t"
        + "\t".join(map(str, draw.integers(0, 2, features)))
        + f"\tclass{paper % 7}"
        for paper in range(papers)
    )
    pairs = {tuple(draw.integers(1, papers + 1, 2).tolist()) for _ in range(3000)}
    cites = "\n".join(f"{one}\t{other}" for one, other in sorted(pairs))
    Path("cora").mkdir(exist_ok=True)
    with tarfile.open("cora.tgz", "w:gz") as archive:
        for name, content in (("cora.content", names), ("cora.cites", cites)):
            Path("cora", name).write_text(content)
            information = tarfile.TarInfo(f"cora/{name}")
            information.size = len(content)
            archive.addfile(information, io.BytesIO(content.encode()))


def images() -> None:
    """Random pictures where `super_resolution` and `fast_neural_style` look for them."""
    draw = numpy.random.default_rng(0)
    for folder, count in (("dataset/BSDS300/images/train", 16), ("dataset/BSDS300/images/test", 4)):
        Path(folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = draw.integers(0, 255, (260, 260, 3), dtype=numpy.uint8)
            Image.fromarray(pixels).save(Path(folder, f"{number}.jpg"))
    Image.fromarray(draw.integers(0, 255, (64, 64, 3), dtype=numpy.uint8)).save("style.jpg")


if __name__ == "__main__":
    {"words": words, "cora": cora, "images": images, "text": text}[sys.argv[1]]()
