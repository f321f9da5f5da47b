"""Pages of a wiki in the XML of MediaWiki's dumps."""

from html import escape

HEAD = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="is">\n  <siteinfo>\n'
    '    <namespaces>\n      <namespace key="0" case="first-letter" />\n'
    '      <namespace key="6" case="first-letter">Mynd</namespace>\n'
    '      <namespace key="14" case="first-letter">Flokkur</namespace>\n    </namespaces>\n  </siteinfo>\n'
)


def page(title: str, text: str, namespace: int = 0, redirect: bool = False, model: str = "wikitext") -> str:
    more = '    <redirect title="Elsewhere" />\n' if redirect else ""
    return (
        f"  <page>\n    <title>{escape(title)}</title>\n    <ns>{namespace}</ns>\n    <id>1</id>\n{more}"
        "    <revision>\n      <id>2</id>\n      <contributor><username>text</username></contributor>\n"
        f"      <model>{model}</model>\n      <format>text/x-wiki</format>\n"
        f'      <text bytes="{len(text)}" xml:space="preserve">{escape(text)}</text>\n'
        "    </revision>\n  </page>\n"
    )


def dump(*pages: str) -> bytes:
    return (HEAD + "".join(pages) + "</mediawiki>\n").encode()
