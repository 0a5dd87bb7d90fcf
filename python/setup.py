"""Puts the binary of the tool into the wheel: built by Go from the checkout, or that of MFAC_BIN.

GOOS and GOARCH choose another platform than this one, as for any Go build. MFAC_NO_BINARY=1 leaves it out:
such an installation needs MFAC_BIN or ``binary=`` when it runs.
"""

import os
import shutil
import stat
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel

HERE = Path(__file__).resolve().parent
TAGS = {  # the binary is static, so that the oldest tag that pip knows is true of it
    ("linux", "amd64"): "manylinux2014_x86_64",
    ("linux", "arm64"): "manylinux2014_aarch64",
    ("darwin", "arm64"): "macosx_11_0_arm64",
    ("darwin", "amd64"): "macosx_11_0_x86_64",
}


def without_binary():
    return os.environ.get("MFAC_NO_BINARY") == "1"


def go(*args):
    try:
        return subprocess.run(["go", *args], cwd=HERE.parent, check=True, stdout=subprocess.PIPE).stdout.decode().strip()
    except FileNotFoundError:
        raise SystemExit("mfac: Go is needed to build the binary: install it, set MFAC_BIN, or MFAC_NO_BINARY=1") from None


class BuildWithBinary(build_py):
    def run(self):
        super().run()
        if without_binary() or self.editable_mode:
            return
        target = Path(self.build_lib, "mfac", "bin", "mfac")
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.environ.get("MFAC_BIN"):
            shutil.copyfile(os.environ["MFAC_BIN"], target)
        elif (HERE.parent / "cmd" / "mfac").is_dir():
            os.environ.setdefault("CGO_ENABLED", "0")
            go("build", "-trimpath", "-ldflags=-s -w", "-o", str(target.resolve()), "./cmd/mfac")
        else:
            raise SystemExit("mfac: the Go sources are not beside this folder: set MFAC_BIN, or MFAC_NO_BINARY=1")
        target.chmod(target.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


class PlatformWheel(bdist_wheel):
    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = without_binary()

    def get_tag(self):
        if without_binary():
            return super().get_tag()
        _, _, here = super().get_tag()
        if os.environ.get("MFAC_BIN"):
            return "py3", "none", here
        return "py3", "none", TAGS.get((go("env", "GOOS"), go("env", "GOARCH")), here)


class WithBinary(Distribution):
    def has_ext_modules(self):
        return not without_binary()


setup(distclass=WithBinary, cmdclass={"build_py": BuildWithBinary, "bdist_wheel": PlatformWheel})
