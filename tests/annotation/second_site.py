"""A second Vitrine: its own SQLite file and folders, in processes that cannot import torch or timm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NOT_HERE = "raise ImportError('there is no torch on this site')\n"


class SecondSite:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        blocked = folder / "blocked"
        blocked.mkdir(parents=True)
        for name in ("torch", "timm", "torchvision"):
            (blocked / f"{name}.py").write_text(NOT_HERE)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("VITRINE_")} | {
            "VITRINE_DATA_ROOT": str(folder), "VITRINE_DATABASE_URL": f"sqlite:///{folder / 'second.sqlite3'}",
            "VITRINE_SITE_NAME": "Second", "VITRINE_STATIC_STORAGE": "plain", "PYTHONPATH": str(blocked),
            "DJANGO_SETTINGS_MODULE": "config.settings", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        self.python(
            "from django.core.management import call_command\ncall_command('migrate', verbosity=0)\n"
            "from annotation.models import User\nUser.objects.create(username='sid', role='researcher')"
        )

    def python(self, code: str) -> str:
        """What a script prints there; a site is started once per script, so put much in one."""
        done = subprocess.run(
            [sys.executable, "-c", f"import django; django.setup()\n{code}"],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
