"""Commands whose options are filled in: an empty one is an unset shell variable, not the current folder."""

from __future__ import annotations

import click


class Command(click.Command):
    """A command that refuses empty values, before an empty path becomes the current folder."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        for param in self.get_params(ctx):
            value = given.get(param.name or "")
            if param.nargs == 1 and "" in (value if isinstance(value, list) else [value]):
                raise click.BadParameter("it is empty, as an unset shell variable is.", ctx=ctx, param=param)
        return super().parse_args(ctx, args)
