"""Explains the words of the page in English and Portuguese, for readers who do not know the lakehouse.

Statuses and strategies are the words of `lakehouse status` and `explain`, in both languages.
"""

from __future__ import annotations

from lakehouse.report.words import Words

_Pair = tuple[str, str]

GLOSSARY: tuple[tuple[_Pair, _Pair], ...] = (
    (
        ("snapshot", "snapshot"),
        (
            "All rows of a table at one time, as the source delivered them.",
            "Todas as linhas de uma tabela em um momento, como a fonte as entregou.",
        ),
    ),
    (
        ("data as of; old", "dados de; antigos"),
        (
            "The time of the newest snapshot that the table is equal to. Data is old from three times the usual"
            " interval between its snapshots on: at least a day, at most a year, and 30 days before a table has three"
            " snapshots.",
            "O momento do snapshot mais recente ao qual a tabela é igual. Os dados são antigos a partir de três vezes o"
            " intervalo usual entre os snapshots: no mínimo um dia, no máximo um ano, e 30 dias enquanto a tabela não"
            " tem três snapshots.",
        ),
    ),
    (
        ("source last checked", "última verificação da fonte"),
        (
            "The end of the last run that succeeded for the table, whether or not the source had something new.",
            "O fim da última execução bem-sucedida para a tabela, com ou sem novidade na fonte.",
        ),
    ),
    (
        ("accepted", "accepted"),
        (
            "The snapshot was taken: its changes are in the table.",
            "O snapshot foi aceito: suas mudanças estão na tabela.",
        ),
    ),
    (
        ("unchanged", "unchanged"),
        (
            "The snapshot has the same bytes as the last accepted one.",
            "O snapshot tem os mesmos bytes do último aceito.",
        ),
    ),
    (
        ("held", "held"),
        (
            "The snapshot would change more than the guards of the table allow. It changes nothing until somebody"
            " approves it, or a newer snapshot is accepted.",
            "O snapshot mudaria mais do que as proteções da tabela permitem. Nada muda até que alguém o aprove, ou até"
            " que um snapshot mais novo seja aceito.",
        ),
    ),
    (
        ("rejected", "rejected"),
        (
            "The snapshot cannot be used, for the reason that is shown. It changes nothing.",
            "O snapshot não pode ser usado, pelo motivo indicado. Nada muda.",
        ),
    ),
    (
        ("sequence", "sequência"),
        (
            "The number of an accepted snapshot of a table: 1, 2, 3.",
            "O número de um snapshot aceito de uma tabela: 1, 2, 3.",
        ),
    ),
    (
        ("inserted (+), updated (~), deleted (\u2212)", "inseridas (+), atualizadas (~), excluídas (\u2212)"),
        (
            "Rows whose key is new; whose key was there with other values; whose key the snapshot no longer has.",
            "Linhas cuja chave é nova; cuja chave já existia com outros valores; cuja chave o snapshot não tem mais.",
        ),
    ),
    (
        ("key", "chave"),
        (
            "The columns whose values identify a row.",
            "As colunas cujos valores identificam uma linha.",
        ),
    ),
    (
        ("quarantine", "quarentena"),
        (
            "Rows that could not be read as declared, or do not meet a rule. They are kept apart until they are"
            " corrected; the table has their last accepted values.",
            "Linhas que não puderam ser lidas como declarado, ou que não atendem a uma regra. Ficam separadas até serem"
            " corrigidas; a tabela mantém seus últimos valores aceitos.",
        ),
    ),
    (
        ("duplicates", "duplicadas"),
        (
            "Further rows of a snapshot with the same key, which were not taken.",
            "Outras linhas de um snapshot com a mesma chave, que não foram usadas.",
        ),
    ),
    (
        ("landing, raw, bronze, silver, gold", "landing, raw, bronze, silver, gold"),
        (
            "The layers of the lake: the bytes as received; the changes; the tables as the source has them now; cleaned"
            " tables; cubes.",
            "As camadas do lake: os bytes como recebidos; as mudanças; as tabelas como a fonte as tem agora; tabelas"
            " tratadas; cubos.",
        ),
    ),
    (
        ("cube, dimension, measure", "cubo, dimensão, medida"),
        (
            "A table of figures, computed from other tables; the columns that it is grouped by; its figures.",
            "Uma tabela de números calculados a partir de outras tabelas; as colunas que a agrupam; seus números.",
        ),
    ),
    (
        ("row-wise, lookup, grouped, windowed", "row-wise, lookup, grouped, windowed"),
        (
            "Strategies that compute only what changed in a model: its rows; also rows that look something up in a"
            " changed row; its groups; its days.",
            "Estratégias que calculam só o que mudou em um modelo: suas linhas; também as que consultam uma linha"
            " alterada; seus grupos; seus dias.",
        ),
    ),
    (
        ("full", "full"),
        (
            "The model is computed from all rows of its inputs; only what differs is written.",
            "O modelo é calculado a partir de todas as linhas de suas entradas; só o que difere é gravado.",
        ),
    ),
    (
        ("expectation", "expectativa"),
        (
            "A rule that the rows of a model have to meet, and what happens to those that do not.",
            "Uma regra que as linhas de um modelo devem atender, e o que acontece com as que não atendem.",
        ),
    ),
    (
        ("lineage", "linhagem"),
        (
            "The columns that the values of a column are computed from.",
            "As colunas das quais os valores de uma coluna são calculados.",
        ),
    ),
    (
        ("personal", "pessoal"),
        (
            "A column with data about a person: masked, or left out of this page.",
            "Uma coluna com dados de uma pessoa: mascarada, ou fora desta página.",
        ),
    ),
)
"""Each term and its meaning, both as English and Portuguese."""


def glossary(words: Words) -> list[_Pair]:
    """Return the terms with their meanings in the language of the page.

    Args:
        words: The language.
    """
    n = 0 if words.language == "en" else 1
    return [(term[n], meaning[n]) for term, meaning in GLOSSARY]
