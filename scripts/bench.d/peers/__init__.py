"""The tools that are measured, each with the same methods.

- `prepare()` installs what it needs on its host, or raises `Unavailable` with the reason.
- `start(mib)` runs the container and returns where a client finds it.
- `checkpoint()` and `restore()` are shell scripts for the host, the commands that an operator would type.
- `disk()` is what the last checkpoint takes; `settle()` waits for what the tool still does in the background,
  and says whether it came to its end.
- `stop()` removes the container and its checkpoints, and `close()` all that `prepare()` has made.
"""


class Unavailable(Exception):
    """This tool cannot do it here, for this reason."""


class Tool:
    """What most tools have in common."""

    port = 7000

    def __init__(self, lab):
        self.lab = lab
        self.host = None

    def holder_image(self, host):
        host.image("bench-holder", "libc6", "libgcc-s1", "--copy", f"{self.lab.program('holder')}:/holder")

    def settle(self):
        """Nothing happens after the commands have ended."""
        return True

    def own(self, output):
        """What the tool itself said of its cycle."""
        return {}

    def close(self):
        pass

    def bytes_of(self, path):
        return int(self.host.output('du -s --block-size=1 "$1" | cut -f1', path))
