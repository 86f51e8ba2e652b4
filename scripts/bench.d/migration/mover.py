"""What tools have in common that move a container between two hosts."""

import subprocess
import threading

from lab import LAB, LabError, Watch

# Where what is copied goes over the link.
PORT = 9999


class Mover:
    """`start(mib, dirtied)` runs the container on the source, `move(mode)` moves it, `stop()` removes it wherever it is."""

    def __init__(self, lab, source, destination):
        self.lab = lab
        self.source, self.destination = source, destination
        self.hosts = (source, destination)

    def modes(self):
        return [None]

    def client(self, address):
        """Who sees how long it is away."""
        return Watch(self.lab, address, new=False)

    def check(self):
        """Raises where the container does not run on the destination with its memory as it was."""
        answer = self.destination.output(f"exec 3<>/dev/tcp/{self.inside}; echo check >&3; head -n 1 <&3")
        if not answer.startswith("ok "):
            raise LabError(f"{self.name}: {answer}")

    def close(self):
        pass


class ByHand(Mover):
    """A tool that moves nothing itself: a command on either host, what is copied between them by nc, and clients that are
    told the way by hand. The destination waits before the source begins, so that no connection has to be made for it."""

    def __init__(self, lab, source, destination):
        super().__init__(lab, source, destination)
        self.here, self.there = self.Tool(lab), self.Tool(lab)

    def prepare(self):
        self.here.ready_on(self.source)
        self.there.ready_on(self.destination)

    def start(self, mib, _dirtied):
        self.lab.route(self.network, self.source)
        return self.here.start(mib)

    def move(self, _mode):
        receive = run(self.destination, f"set -e -o pipefail; echo ready; {self.receive()}; echo restored")
        expect(receive, "ready")
        # nc has to listen; the kernel has no event for that here.
        self.destination.shell(f"until ss -Hltn 'sport = {PORT}' | grep -q .; do :; done")
        # A shell that is there already tells the clients the way at once.
        way = subprocess.Popen([LAB, "client", "sh"], stdin=subprocess.PIPE, text=True)
        send = run(self.source, f"set -e -o pipefail; {self.send()}")
        try:
            expect(receive, "restored", send)
        except LabError:
            way.communicate()
            self.send_nothing(receive)
            raise
        print(f"ip route replace {self.network} via {self.destination.address}", file=way.stdin, flush=True)
        way.stdin.close()
        for process in (way, send, receive):
            if process.wait() != 0:
                raise LabError(f"{self.name}: {process.stderr.read()[-500:] if process.stderr else 'no way to it'}")
        return {}

    def send_nothing(self, receive):
        """Who waits for something that will not come must not take what the next tool sends."""
        self.source.shell(f"nc -N {self.destination.address} {PORT} </dev/null", check=False)
        receive.wait()

    def stop(self):
        self.here.stop()
        self.there.stop()

    def close(self):
        self.here.close()
        self.there.close()


def run(host, script):
    words = [LAB, "exec", host.name, "bash", "-c", script]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def expect(process, word, sender=None):
    """Returns at that line. Where it does not come, or who is to send something has failed, what they complain of is the error."""
    found = []
    reader = threading.Thread(target=lambda: found.append(any(line.strip() == word for line in process.stdout)), daemon=True)
    reader.start()
    while reader.is_alive() and not (sender and sender.poll()):
        reader.join(1)
    if found != [True]:
        failed = sender if sender and sender.poll() else process
        failed.wait()
        raise LabError(f"never came to be {word}: {failed.stderr.read()[-500:]}")
