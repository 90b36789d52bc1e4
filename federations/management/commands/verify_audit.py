"""Verify the audit log: every chain, or the named ones."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from federations.management import migrations
from federations.models import AuditChain
from federations.services import audit


class Command(BaseCommand):
    """Exit code 0: every chain is whole. 1: the first break of each broken chain is printed."""

    help = "Recompute the hash chains of the audit log."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("chain", nargs="*", help="org_… or portal; all if none is named")

    def handle(self, *args: Any, **options: Any) -> None:
        named = options["chain"]
        with migrations.asked_for():
            breaks = list(filter(None, map(audit.verify, named))) if named else list(audit.verify_all())
        for found in breaks:
            self.stderr.write(f"{found.chain} breaks at #{found.sequence}: {found.reason}")
        if breaks:
            raise CommandError(f"{len(breaks)} of the audit log's chains are broken.")
        self.stdout.write(f"{len(named) or AuditChain.objects.count()} chains are whole.")
