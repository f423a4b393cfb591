"""Tutorials: notebooks with stored outputs become pages of the site (a hook of mkdocs).

To store the outputs again after a change: ``jupyter execute --inplace docs/tutorials/NAME.ipynb``. The tests run each notebook
with fewer events. Pictures need a text for those who cannot see them, ``alt`` in the metadata of their cell.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

from mkdocs.structure.files import File, Files


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the page and the pictures of each notebook (called by mkdocs)."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        name = notebook.src_uri.removesuffix(".ipynb")
        text, pictures = page(json.loads(notebook.content_string), name.rpartition("/")[2])
        files.append(File.generated(config, f"{name}.md", content=text))
        for path, picture in pictures.items():
            path = f"{name.rpartition('/')[0]}/{path}"
            files.append(File.generated(config, path, content=picture))
    return files


def page(notebook: dict[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """Returns the text of a notebook as Markdown, and its pictures by file name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source.replace(".ipynb)", ".md)"))
            continue
        parts.append(code(source))
        for data in outputs(cell):
            if isinstance(data, bytes):
                file = f"{name}-{len(pictures) + 1}.png"
                pictures[file] = data
                parts.append(f"![{cell['metadata']['alt']}]({file})")
            else:
                parts.append(f"``` {{ .text .output }}\n{data.rstrip()}\n```")
    title, _, text = "\n\n".join(parts).partition("\n")
    note = f"*This page is a notebook: [download it]({name}.ipynb).*"
    return f"{title}\n\n{note}\n{text}\n", pictures


def code(source: str) -> str:
    """Returns a code cell as a block: a file, commands of the shell, or Python."""
    head, _, rest = source.partition("\n")
    if head == "%%sh":
        return f"```sh\n{rest}\n```"
    if head.startswith("%%writefile "):
        name = head.split()[1]
        return f'```{name.rpartition(".")[2]} title="{name}"\n{rest}\n```'
    return f"```python\n{source}\n```"


def outputs(cell: dict[str, Any]) -> Iterator[str | bytes]:
    """Yields the outputs of a code cell: texts, and pictures as PNG files."""
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            if not "".join(cell["source"]).startswith("%%writefile"):
                yield "".join(output["text"])
        elif "image/png" in output["data"]:
            yield base64.b64decode("".join(output["data"]["image/png"]))
        else:
            yield "".join(output["data"]["text/plain"])
