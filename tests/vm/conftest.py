# SPDX-License-Identifier: Apache-2.0
import signal
import sys


def pytest_configure():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that fixtures clean up
