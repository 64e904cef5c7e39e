"""Examples in docstrings become code blocks; griffe, which reads them, loads this for mkdocs."""

import griffe


def fenced(docstring: str) -> str:
    """The text with a fence around each paragraph that starts with `>>>`."""
    return "\n\n".join(
        f"```pycon\n{paragraph}\n```" if paragraph.lstrip().startswith(">>>") else paragraph
        for paragraph in docstring.split("\n\n")
    )


class Examples(griffe.Extension):
    """Fences the examples of every object."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        """Called for each object once it has been read."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
