"""Lists words in names and values that show the role of a column: in English, Portuguese and a little Spanish."""

from __future__ import annotations

import re

from lakehouse.propose.names import to_snake_case


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NULL_WORDS = _words(
    r"null none nil n/a n.a. na n/d n.d. nd #n/a #n/d nan - -- --- ? . \n missing unknown undefined (null) <null>"
)
"""Texts, in lower case, that often stand for a value that is not there."""

ID_WORDS = _words(
    "id ids uuid guid key chave cod codigo code codes sku ean gtin isbn issn cpf cnpj rg nif ssn iban bic cep zip"
    " postcode postal plz phone telefone celular fone tel mobile fax conta account agencia matricula license plate"
    " placa ticket protocolo version versao hash token ip barcode serial nfe renavam pis"
)
"""Words of identifiers, whose digits are no number."""

DATE_WORDS = _words(
    "date data datum fecha dt day dia ts time timestamp at on created updated modified inicio fim start end criacao"
    " atualizacao vencimento nascimento birth datetime hora epoch instant quando when since until expiry expires seen"
)
"""Words of dates and times: integers in such a column may count days or milliseconds."""

TIME_WORDS = _words("ts time timestamp at hora datetime epoch instant unix created updated modified")
"""Words of columns that have a time of day."""

UPDATE_WORDS = _words(
    "updated update modified changed lastmodified atualizacao atualizado alteracao alterado modificacao modificado"
)
"""Words of the time of a row's last change."""

PART_WORDS = _words(
    "ano mes year month week semana dia day date data line linha item seq sequence numero number num nr no pos position"
    " uf state estado sigla iso country pais currency moeda symbol ticker slug email username login name nome"
)
"""Words of columns that are often part of a key."""

ROW_NUMBER_NAMES = _words("column_1 index row rownum row_number unnamed_0 linha n")
"""Names of columns that number the rows of a file."""

_NUMBER_WORDS = ("no", "nr", "num", "numero", "number")
_AROUND_NAMES = _words(
    "base cadastro dados data dim dimensao export extract extrato fact fato full lista list raw relatorio report"
    " snapshot stg tabela table tb tbl"
)
_OWN_ID_NAMES = _words("id uuid guid key codigo code cod")


def is_id_name(name: str) -> bool:
    """Return whether a column's name is that of an identifier.

    >>> is_id_name("idCliente"), is_id_name("CEP"), is_id_name("IDENTIDADE_QTDE"), is_id_name("customerid")
    (True, True, False, True)

    Args:
        name: The name in the files.
    """
    words = to_snake_case(name).split("_")
    ends_with_id = len(words) == 1 and re.search(r"[a-z](id|uuid|code|key)$", words[0])
    return bool(ID_WORDS & set(words)) or bool(ends_with_id)


def is_own_id_name(table: str, name: str) -> bool:
    """Return whether a column's name is that of the identifier of the table's own rows.

    >>> is_own_id_name("clientes", "idCliente"), is_own_id_name("transacoes", "idCliente"), is_own_id_name("x", "ID")
    (True, False, True)
    >>> is_own_id_name("pagamentos", "Nº Pagamento"), is_own_id_name("export_orders_2025_10", "order_number")
    (True, True)

    Args:
        table: The table's name.
        name: The column's name in the files.
    """
    snake = to_snake_case(name)
    words = [word for word in table.split("_") if not word.isdigit() and word not in _AROUND_NAMES]
    table = "_".join(words) or table
    stems = {table, re.sub(r"s$", "", table), re.sub(r"es$", "", table), re.sub(r"oes$", "ao", table)}
    own = {own.replace("_", "") for stem in stems for own in (f"id{stem}", f"{stem}id", f"{stem}code")}
    own |= {f"{word}{stem}" for stem in stems for word in ("cod", "codigo", *_NUMBER_WORDS)}
    own |= {f"{stem}{word}" for stem in stems for word in _NUMBER_WORDS}
    return snake in _OWN_ID_NAMES or snake.replace("_", "") in own
