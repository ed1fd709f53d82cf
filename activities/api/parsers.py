"""JSON in, with nothing lost on the way."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser


class ExactJSONParser(JSONParser):
    """Numbers with a point or an exponent become `Decimal`, `NaN` and `Infinity` too, for the domain to refuse them
    by their field's name. Raises `ParseError` for what is no JSON in UTF-8 or is nested beyond reason."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            text = stream.read().decode("utf-8-sig")  # some editors put a mark before the text
            return json.loads(text, parse_float=_number, parse_int=_whole, parse_constant=Decimal)
        except RecursionError:
            raise ParseError("the body is nested too deeply") from None
        except ValueError as wrong:
            raise ParseError(f"the body is not JSON in UTF-8: {wrong}") from None


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of more than 18 digits
        return Decimal("Infinity")


def _whole(text: str) -> int | Decimal:
    return int(text) if len(text) <= sys.int_info.default_max_str_digits else Decimal(text)
