"""Fixes that make or move whole files: a test file with a taken name (class 13), a merge migration (class 19)."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from greenline.rules.fixes.fix import Fix, Refused


def rename_file(fix: Fix, sources: Mapping[str, bytes]) -> dict[str, bytes | None]:
    """The file keeps its content under another name."""
    if fix.path not in sources:
        raise Refused(f"{fix.path} is not there")
    if fix.new in sources:
        raise Refused(f"{fix.new} is there already")
    return {fix.path: None, fix.new: sources[fix.path]}


def merge_migration(fix: Fix) -> bytes:
    """A migration without operations after both heads; the heads stay as they are."""
    if fix.old == "alembic":
        name = posixpath.basename(fix.path).removesuffix("_merge.py")
        return _ALEMBIC.format(name=name, one=fix.module, other=fix.new_module).encode()
    app = posixpath.basename(posixpath.dirname(posixpath.dirname(fix.path)))
    return _DJANGO.format(app=app, one=fix.module, other=fix.new_module).encode()


_ALEMBIC = '''"""Merge {one} and {other}."""

revision = "{name}"
down_revision = ("{one}", "{other}")
branch_labels = None
depends_on = None


def upgrade():
    pass


def downgrade():
    pass
'''

_DJANGO = """from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("{app}", "{one}"),
        ("{app}", "{other}"),
    ]

    operations = []
"""
