"""A script around runc: the bundle is on both hosts, its network namespace too, and nothing but CRIU's images is copied."""

from peers import bare_runc

from .mover import PORT, ByHand

HOME = bare_runc.HOME


class BareRunc(ByHand):
    key, name = "runc", "runc checkpoint, copy, runc restore"
    Tool = bare_runc.BareRunc
    network, inside = "10.99.0.0/24", "10.99.0.2/7000"

    def start(self, mib, dirtied):
        # What CRIU keeps packets out with stays in a namespace from which a container has gone.
        for tool in (self.here, self.there):
            tool.ready_on(tool.host)
            tool.configure(mib)
        return super().start(mib, dirtied)

    def send(self):
        return f"{self.here.checkpoint()} >/dev/null; tar -C {HOME} -c image | nc -N {self.destination.address} {PORT}"

    def receive(self):
        return f"rm -rf {HOME}/image; nc -l {PORT} | tar -C {HOME} -x; {self.there.restore()}"
