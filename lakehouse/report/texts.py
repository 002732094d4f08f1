"""Contains every text of the page in English and Portuguese. Names of tables, columns and models are the user's own."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    "lang": ("en", "pt-BR"),
    "title": ("{pipeline} · lakehouse report", "{pipeline} · relatório do lakehouse"),
    "kicker": ("Lakehouse report", "Relatório do lakehouse"),
    "made": (
        "Created {time} from {lake}. Times are in the zone {zone}.",
        "Gerado em {time} a partir de {lake}. Os horários estão no fuso {zone}.",
    ),
    "theme": ("Theme", "Tema"),
    "theme_auto": ("Same as system", "Igual ao sistema"),
    "theme_light": ("Light", "Claro"),
    "theme_dark": ("Dark", "Escuro"),
    "contents": ("Contents", "Conteúdo"),
    "empty": ("This lake is empty.", "Este lake está vazio."),
    "empty_next": (
        "There is no accepted snapshot and no recorded run. Next command:",
        "Não há snapshot aceito nem execução registrada. Próximo comando:",
    ),
    # the summary
    "newest": ("Data as of", "Dados de"),
    "before": ("{age} before this report", "{age} antes deste relatório"),
    "oldest_data": ("oldest: {table}, {age}", "mais antigos: {table}, {age}"),
    "never": ("never", "nunca"),
    "last_run": ("Last run", "Última execução"),
    "run_good": ("succeeded", "concluída com sucesso"),
    "run_nothing": ("nothing new", "nenhuma novidade"),
    "run_open": ("not finished", "não terminada"),
    "run_code": ("exit code {code}", "código de saída {code}"),
    "took": ("{time}, duration {age}", "{time}, duração {age}"),
    "waiting_rows": ("Rows in quarantine", "Linhas em quarentena"),
    "of_tables": ("in {tables} of {of} tables", "em {tables} de {of} tabelas"),
    "up_to_date": ("Models up to date", "Modelos em dia"),
    "of": ("{part} of {whole}", "{part} de {whole}"),
    "attention": ("Needs attention", "Requer atenção"),
    "held_since": (
        "{table}: the snapshot of {time} is held for approval",
        "{table}: o snapshot de {time} está retido e precisa de aprovação",
    ),
    "rejected_newest": ("{table}: the newest snapshot was rejected", "{table}: o snapshot mais recente foi rejeitado"),
    "overdue": ("{table}: overdue by {age}", "{table}: atraso de {age}"),
    "data_is_old": (
        "{table}: data of {time}, {age} before this report",
        "{table}: dados de {time}, {age} antes deste relatório",
    ),
    "changed_in_source": (
        "{table}: the snapshot of {time} changed in the source after it was taken; {next}",
        "{table}: o snapshot de {time} mudou na fonte depois de aceito; {next}",
    ),
    "not_ready": ("source: {message}", "fonte: {message}"),
    "model_waits": ("{model}: not up to date with {inputs}", "{model}: desatualizado em relação a {inputs}"),
    "run_failed": (
        "{doing}, {run}: exit code {code}{failed}",
        "{doing}, {run}: código de saída {code}{failed}",
    ),
    "nothing_waits": ("Nothing needs attention.", "Nada requer atenção."),
    # the flow
    "flow": ("Flow", "Fluxo"),
    "flow_lede": (
        "From the snapshots of the source to the cubes, with the result of the run of {time}. A line connects a table"
        " or model with its input.",
        "Dos snapshots da fonte aos cubos, com o resultado da execução de {time}. Uma linha liga cada tabela ou modelo"
        " à sua entrada.",
    ),
    "flow_never": ("There is no recorded run.", "Não há execução registrada."),
    "flow_since": (
        "Runs since then without changes: {runs}.",
        "Execuções desde então sem mudanças: {runs}.",
    ),
    "rows": ("{n} rows", "{n} linhas"),
    "not_there": ("does not exist yet", "ainda não existe"),
    # freshness
    "freshness": ("Freshness", "Atualidade"),
    "freshness_lede": (
        "How old the data of each table was when this report was created: the time of the newest snapshot that the"
        " table is equal to. It is old if it is three times older than the usual interval between snapshots. That a"
        " run has checked the source since then does not make it newer.",
        "A idade dos dados de cada tabela quando este relatório foi gerado: o momento do snapshot mais recente ao qual"
        " a tabela é igual. São antigos a partir de três vezes o intervalo usual entre snapshots. Uma execução que"
        " apenas verificou a fonte depois disso não os torna mais novos.",
    ),
    "data": ("data", "dados"),
    "data_of": ("data as of", "dados de"),
    "data_current": ("current", "atuais"),
    "data_old": ("old", "antigos"),
    "table": ("table", "tabela"),
    "snapshot": ("snapshot", "snapshot"),
    "age": ("age", "idade"),
    "sequence": ("sequence", "sequência"),
    "newest_decision": ("newest decision", "última decisão"),
    "last_looked": ("source last checked", "última verificação da fonte"),
    "due": ("runs", "execuções"),
    "in_time": ("on time", "em dia"),
    "late": ("late by {age}", "atraso de {age}"),
    "note": ("note", "nota"),
    # changes
    "changes": ("Changes over time", "Mudanças ao longo do tempo"),
    "changes_lede": (
        "Rows inserted, updated and deleted by each accepted snapshot. The first snapshot of a table only inserts rows;"
        " it is not in the charts, but in the table below.",
        "Linhas inseridas, atualizadas e excluídas por cada snapshot aceito. O primeiro snapshot de uma tabela só"
        " insere linhas; ele não aparece nos gráficos, mas na tabela abaixo.",
    ),
    "no_changes": (
        "There is only one snapshot: nothing to compare yet.",
        "Há somente um snapshot: ainda não há o que comparar.",
    ),
    "changed_rows": ("Changed rows", "Linhas alteradas"),
    "changed_rows_lede": (
        "Rows that the newest snapshots of each table changed: at most {rows} of each kind of change, of at most"
        " {snapshots} snapshots. Values are those of bronze. Personal columns are masked: ***.",
        "Linhas alteradas pelos snapshots mais recentes de cada tabela: no máximo {rows} de cada tipo de mudança, de no"
        " máximo {snapshots} snapshots. Os valores são os da camada bronze. Colunas pessoais são mascaradas: ***.",
    ),
    "missing_keys": ("Missing keys", "Chaves ausentes"),
    "missing_since": ("First missing since", "Primeira ausente desde"),
    "wrong_keys": ("Keys wrong in the feed", "Chaves erradas no feed"),
    "by_snapshot_of": ("By the snapshot of", "Pelo snapshot de"),
    "no_changed_rows": (
        "The change set of this snapshot cannot be read.",
        "O conjunto de mudanças deste snapshot não pode ser lido.",
    ),
    "change": ("change", "mudança"),
    "key": ("key", "chave"),
    "was": ("before", "antes"),
    "is_now": ("after", "depois"),
    "whole_row": ("(the row)", "(a linha)"),
    "not_found": ("(not found)", "(não encontrado)"),
    "masked": ("Masked: {columns}.", "Mascaradas: {columns}."),
    "decisions": ("All decisions", "Todas as decisões"),
    "decisions_cut": (
        "The newest {shown} of {of}. To see all: lakehouse history {folder} TABLE",
        "As {shown} mais recentes de {of}. Para ver todas: lakehouse history {folder} TABLE",
    ),
    "status": ("status", "situação"),
    "rows_read": ("read", "lidas"),
    "inserted": ("inserted", "inseridas"),
    "updated": ("updated", "atualizadas"),
    "deleted": ("deleted", "excluídas"),
    "unchanged": ("unchanged", "inalteradas"),
    "quarantined": ("quarantined", "em quarentena"),
    "duplicates": ("duplicates", "duplicadas"),
    "reason": ("reason", "motivo"),
    # quality and quarantine
    "quality": ("Quality", "Qualidade"),
    "quality_lede": (
        "Row counts of the newest accepted snapshot of each table, and the expectations of the models.",
        "Contagem de linhas do snapshot aceito mais recente de cada tabela, e as expectativas dos modelos.",
    ),
    "accepted_rows": ("accepted", "aceitas"),
    "accepted_share": ("% not rejected", "% não rejeitadas"),
    "no_expectations": ("No model has expectations.", "Nenhum modelo tem expectativas."),
    "expectation": ("expectation", "expectativa"),
    "check": ("check", "verificação"),
    "on_fail": ("on failure", "em caso de falha"),
    "results": ("Results", "Resultados"),
    "quarantine": ("Quarantine", "Quarentena"),
    "quarantine_lede": (
        "The number of rejected rows by rule. This report does not show the rows. To see them:"
        " lakehouse quarantine {folder} TABLE",
        "O número de linhas rejeitadas por regra. Este relatório não mostra as linhas. Para vê-las:"
        " lakehouse quarantine {folder} TABLE",
    ),
    "no_quarantine": ("No row has been quarantined.", "Nenhuma linha foi posta em quarentena."),
    "stage": ("stage", "etapa"),
    "rule": ("rule", "regra"),
    "column": ("column", "coluna"),
    "waiting": ("unresolved", "pendentes"),
    "resolved": ("resolved", "resolvidas"),
    "since_sequence": ("since sequence", "desde a sequência"),
    # cubes
    "cubes": ("Cubes", "Cubos"),
    "no_cubes": ("No cube has been computed yet.", "Nenhum cubo foi calculado ainda."),
    "cube_facts": (
        "{rows} rows · dimensions: {dimensions} · measures: {measures}.",
        "{rows} linhas · dimensões: {dimensions} · medidas: {measures}.",
    ),
    "none": ("none", "nenhuma"),
    "hidden": ("Personal columns are not shown: {columns}.", "Colunas pessoais não são mostradas: {columns}."),
    "uncharted": ("No chart by {dimensions}: too many values.", "Sem gráfico por {dimensions}: valores demais."),
    "times_cut": (
        "The charts show the newest {n} dates or times.",
        "Os gráficos mostram as {n} datas ou horas mais recentes.",
    ),
    "count": ("rows", "linhas"),
    "count_of": ("number of {name}", "número de {name}"),
    "day_of_month": ("%b %-d", "%-d %b"),
    "by": ("By {label}", "Por {label}"),
    "by_newest": ("By {label}, {time}", "Por {label}, {time}"),
    "top": ("{shown} of {of}, by {measure}", "{shown} de {of}, por {measure}"),
    "measure": ("Measure", "Medida"),
    "no_value": ("(none)", "(nenhum)"),
    "newest_rows": ("Newest rows", "Linhas mais recentes"),
    "first_rows": ("Rows", "Linhas"),
    "why_rows": ("Which rows made the first ones", "De quais linhas vêm as primeiras"),
    "why_rows_lede": (
        "Open a row to see the rows of its inputs, down to the source. All of them: lakehouse why {folder} {model} KEY",
        "Abra uma linha para ver as linhas de origem, até a fonte. Todas: lakehouse why {folder} {model} KEY",
    ),
    "since_snapshot": ("since {time}", "desde {time}"),
    "line_of_file": ("line {line}", "linha {line}"),
    "more_rows": ("and {count} more of {table}", "e mais {count} de {table}"),
    "rows_shown": ("{shown} of {of}", "{shown} de {of}"),
    "print_cut": ("Printed: the first {n}.", "Impressas: as primeiras {n}."),
    "filter": ("Filter", "Filtrar"),
    "filter_table": ("Filter the table {name}", "Filtrar a tabela {name}"),
    "sort_by": ("Sort by {name}", "Ordenar por {name}"),
    "no_script": (
        "The charts need JavaScript, which is disabled in this browser. The tables work without it.",
        "Os gráficos precisam de JavaScript, que está desativado neste navegador. As tabelas funcionam sem ele.",
    ),
    "chart_failed": ("This chart could not be drawn.", "Este gráfico não pôde ser desenhado."),
    # lineage
    "lineage": ("Lineage", "Linhagem"),
    "lineage_lede": (
        "Choose a column to see the columns that its values are computed from, and the columns computed from them. The"
        " columns of filters, joins and GROUP BY decide which rows exist; they are not followed.",
        "Escolha uma coluna para ver as colunas das quais seus valores são calculados, e as colunas calculadas a partir"
        " deles. As colunas de filtros, junções e GROUP BY decidem quais linhas existem; elas não são seguidas.",
    ),
    "find_column": ("Find a column", "Encontrar uma coluna"),
    "clear": ("Clear", "Limpar"),
    "personal": ("personal", "pessoal"),
    "from_columns": ("source columns", "colunas de origem"),
    "reads": ("inputs", "entradas"),
    "constant": ("none", "nenhuma"),
    "all_columns": ("All columns with their source columns", "Todas as colunas com suas colunas de origem"),
    "computed_as": ("SQL expression", "expressão SQL"),
    # models and runs
    "models": ("Models", "Modelos"),
    "models_lede": (
        "How each model is kept up to date, and the reason.",
        "Como cada modelo é mantido em dia, e o motivo.",
    ),
    "model": ("model", "modelo"),
    "strategy": ("strategy", "estratégia"),
    "keys": ("keys", "chaves"),
    "version": ("version", "versão"),
    "runs": ("Runs", "Execuções"),
    "run": ("run", "execução"),
    "doing": ("command", "comando"),
    "started": ("started", "início"),
    "seconds": ("seconds", "segundos"),
    "exit_code": ("exit code", "código de saída"),
    "failed": ("failed", "falhou"),
    "nothing_new": ("nothing new", "sem novidade"),
    "glossary": ("Glossary", "Glossário"),
    "about": (
        "Created by lakehouse {version}, command: lakehouse report {folder}. This file loads and sends nothing. It is a"
        " copy of data of the lake: after lakehouse forget, create a new report and delete this one.",
        "Gerado pelo lakehouse {version}, comando: lakehouse report {folder}. Este arquivo não carrega nem envia nada."
        " É uma cópia de dados do lake: depois de lakehouse forget, gere um novo relatório e apague este.",
    ),
}
