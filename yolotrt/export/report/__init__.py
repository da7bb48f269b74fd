"""The report beside an exported bundle: `NAME-report.html` for people, `NAME-report.json` for programs.

It is read in a browser, on a phone, and in a mail, which decides how it is made:

- One file: no script, nothing fetched, pictures inside. Mail programs remove scripts and fetch nothing.
- Bars are cells of tables with a colour and a width, since mail programs remove SVG. The one SVG, accuracy over
  latency, repeats what the table above it says in numbers. Pictures may be blocked too, so each has its text.
- The style sheet stands in the head. What a reader would miss without it (bars, alignment, the red of a failure) stands
  in the elements themselves, as some mail programs drop the sheet; dark mode is a second sheet for the same reason.
- The tree is that of the standard library (`markup`): it escapes all text and closes all tags, so no class name and no
  file name becomes markup, and the export needs no template package.
"""

from yolotrt.export.report.report import Report, make_report, write_report

__all__ = ["Report", "make_report", "write_report"]
