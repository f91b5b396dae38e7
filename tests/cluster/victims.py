"""Workers of the Ray that this process started, found by what they run, and killed by pid.

A process may end, or be a zombie that its parent has not yet collected, between any two looks at it.
"""

import psutil


def running(process: psutil.Process, *steps: str) -> list[psutil.Process]:
    """Descendants of `process` whose command line names one of `steps`: Ray writes there what a worker runs."""
    found = []
    for child in process.children(recursive=True):
        try:
            if any(step in " ".join(child.cmdline()) for step in steps):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def kill(process: psutil.Process) -> bool:
    """Send SIGKILL; False when it had ended by itself."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True
