"""Text that comes from data, attribute names above all, shown as it is wherever it is put.

A name may hold any character: `&` and `<` of a page, `|` and `` ` `` of Markdown, `$` of a formula. Each function here
is for one place that text goes to, and is called where the text goes there, never earlier: what is compared, looked up
and kept is the name itself.
"""

import json
import re
import unicodedata
from typing import Any

# Letters and digits mean themselves; so do a space within the text, "_" and "-" within a word, a decimal point, and the
# commas and colons of a sentence. Everything else is special, somewhere or other.
_SPECIAL = re.compile(r"(?<=\S) (?=\S)|(?<=[^\W_])[_-](?=[^\W_])|(?<=\d)\.(?=\d)|(?<=[^\W_])[,;:](?= [^\W_])|([\W_])")


def markdown(text: object) -> str:
    """A text as Markdown, a cell of a table included, or as HTML that shows that very text.

    Special characters become references such as `&#60;`, which both languages take for text only. A reference means
    nothing in code: a code span or a fence is no place for it. A character that cannot be shown, a control character
    for instance, becomes U+FFFD.
    """
    return _SPECIAL.sub(lambda found: found[0] if found[1] is None else _reference(found[1]), str(text))


def _reference(character: str) -> str:
    hidden = unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n\r"
    return "\ufffd" if hidden else f"&#{ord(character)};"


def mathtext(text: object) -> str:
    """A text for matplotlib, which takes what stands between two dollar signs for a formula."""
    return str(text).replace("$", r"\$")


def script(value: Any) -> str:
    """A value as JSON in an HTML script element, which no text in it can end or continue.

    After `<!--<script` a page takes `</script>` for a part of the script, so no `<` may stay; `&` is special in XHTML,
    and U+2028 and U+2029 end a line of JavaScript.
    """
    return re.sub("[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value))
