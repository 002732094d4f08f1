"""Every word of the page: English, Portuguese. Names of tables, columns and models are the user's own."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, str]] = {
    "lang": ("en", "pt-BR"),
    "title": ("{pipeline} · lakehouse report", "{pipeline} · relatório do lakehouse"),
    "kicker": ("Lakehouse report", "Relatório do lakehouse"),
    "made": ("Made {time} from {lake}", "Gerado em {time} a partir de {lake}"),
    "theme": ("Theme", "Tema"),
    "theme_auto": ("As the system", "Como o sistema"),
    "theme_light": ("Light", "Claro"),
    "theme_dark": ("Dark", "Escuro"),
    "contents": ("Contents", "Conteúdo"),
    "empty": ("This lake holds nothing yet.", "Este lake ainda não tem nada."),
    "empty_next": (
        "No snapshot has been accepted and no run is on record. The next command:",
        "Nenhum snapshot foi aceito e nenhuma execução está registrada. O próximo comando:",
    ),
    # the summary
    "newest": ("Newest snapshot", "Snapshot mais recente"),
    "before": ("{age} before this report", "{age} antes deste relatório"),
    "never": ("never", "nunca"),
    "last_run": ("Last run", "Última execução"),
    "run_good": ("went well", "terminou bem"),
    "run_nothing": ("found nothing new", "não encontrou novidade"),
    "run_open": ("has not ended", "não terminou"),
    "run_code": ("exit code {code}", "código de saída {code}"),
    "took": ("{time}, took {age}", "{time}, levou {age}"),
    "waiting_rows": ("Rows in quarantine", "Linhas em quarentena"),
    "of_tables": ("in {tables} of {of} tables", "em {tables} de {of} tabelas"),
    "up_to_date": ("Models up to date", "Modelos em dia"),
    "of": ("{part} of {whole}", "{part} de {whole}"),
    "attention": ("To look at", "Para verificar"),
    "held_since": (
        "{table}: the snapshot of {time} is held until somebody approves it",
        "{table}: o snapshot de {time} está retido até que alguém o aprove",
    ),
    "rejected_newest": ("{table}: the newest snapshot was rejected", "{table}: o snapshot mais recente foi rejeitado"),
    "overdue": ("{table}: overdue by {age}", "{table}: atrasada em {age}"),
    "model_waits": ("{model}: waits for {inputs}", "{model}: espera por {inputs}"),
    "run_failed": ("run {run}: {failed}", "execução {run}: {failed}"),
    "nothing_waits": ("Nothing waits for anybody.", "Nada espera por ninguém."),
    # the flow
    "flow": ("Flow", "Fluxo"),
    "flow_lede": (
        "From the source's snapshots to the cubes, with what the run of {time} did. A line is what reads what.",
        "Dos snapshots da fonte aos cubos, com o que a execução de {time} fez. Uma linha diz quem lê quem.",
    ),
    "flow_never": ("No run is on record.", "Nenhuma execução está registrada."),
    "flow_since": (
        "{runs} runs since then found nothing new.",
        "{runs} execuções desde então não encontraram novidade.",
    ),
    "rows": ("{n} rows", "{n} linhas"),
    "not_there": ("not there yet", "ainda não existe"),
    # freshness
    "freshness": ("Freshness", "Atualidade"),
    "freshness_lede": (
        "How old the newest accepted snapshot of each table was when this report was made, and when a run last looked"
        " at the source.",
        "Idade do snapshot aceito mais recente de cada tabela quando este relatório foi gerado, e quando uma execução"
        " olhou a fonte pela última vez.",
    ),
    "table": ("table", "tabela"),
    "snapshot": ("snapshot", "snapshot"),
    "age": ("age", "idade"),
    "sequence": ("sequence", "sequência"),
    "newest_decision": ("newest decision", "última decisão"),
    "last_looked": ("last looked at", "última verificação"),
    "due": ("due", "prazo"),
    "in_time": ("in time", "em dia"),
    "late": ("late by {age}", "atraso de {age}"),
    "note": ("note", "nota"),
    # changes
    "changes": ("Changes over time", "Mudanças ao longo do tempo"),
    "changes_lede": (
        "Rows inserted, updated and deleted by each accepted snapshot. A table's first snapshot is all inserts and is"
        " left out of the charts; the table below has it.",
        "Linhas inseridas, atualizadas e excluídas por cada snapshot aceito. O primeiro snapshot de uma tabela é só"
        " inserção e fica fora dos gráficos; a tabela abaixo o mostra.",
    ),
    "no_changes": (
        "One snapshot so far: nothing to compare yet.",
        "Só um snapshot até agora: nada para comparar ainda.",
    ),
    "decisions": ("Every decision", "Todas as decisões"),
    "decisions_cut": (
        "The newest {shown} of {of}. All of them: lakehouse history {folder} TABLE",
        "As {shown} mais recentes de {of}. Todas: lakehouse history {folder} TABLE",
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
        "What the newest accepted snapshot of each table came to, and what is expected of the models.",
        "O resultado do snapshot aceito mais recente de cada tabela, e o que se espera dos modelos.",
    ),
    "accepted_rows": ("accepted", "aceitas"),
    "accepted_share": ("% not refused", "% não recusadas"),
    "no_expectations": ("No model has expectations.", "Nenhum modelo tem expectativas."),
    "expectation": ("expectation", "expectativa"),
    "check": ("check", "verificação"),
    "on_fail": ("on failure", "em caso de falha"),
    "results": ("Results", "Resultados"),
    "quarantine": ("Quarantine", "Quarentena"),
    "quarantine_lede": (
        "Rows that were refused and wait to be mended, by reason. Their contents stay in the lake:"
        " lakehouse quarantine {folder} TABLE",
        "Linhas recusadas que esperam correção, por motivo. O conteúdo delas fica no lake:"
        " lakehouse quarantine {folder} TABLE",
    ),
    "no_quarantine": ("Nothing is, or ever was, in quarantine.", "Nada está, nem esteve, em quarentena."),
    "stage": ("stage", "etapa"),
    "rule": ("rule", "regra"),
    "column": ("column", "coluna"),
    "waiting": ("waiting", "à espera"),
    "resolved": ("mended", "corrigidas"),
    "since_sequence": ("since sequence", "desde a sequência"),
    # cubes
    "cubes": ("Cubes", "Cubos"),
    "no_cubes": ("No cube has been computed yet.", "Nenhum cubo foi calculado ainda."),
    "cube_facts": (
        "{rows} rows · dimensions: {dimensions} · measures: {measures}.",
        "{rows} linhas · dimensões: {dimensions} · medidas: {measures}.",
    ),
    "none": ("none", "nenhuma"),
    "hidden": ("Personal columns are left out: {columns}.", "Colunas pessoais ficam de fora: {columns}."),
    "uncharted": ("No chart by {dimensions}: too many kinds.", "Sem gráfico por {dimensions}: tipos demais."),
    "times_cut": ("The charts show the newest {n} times.", "Os gráficos mostram os {n} tempos mais recentes."),
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
    "rows_shown": ("{shown} of {of}", "{shown} de {of}"),
    "print_cut": ("Printed: the first {n}.", "Impressas: as primeiras {n}."),
    "filter": ("Filter", "Filtrar"),
    "filter_table": ("Filter the table {name}", "Filtrar a tabela {name}"),
    "sort_by": ("Sort by {name}", "Ordenar por {name}"),
    "no_script": (
        "The charts need JavaScript, which this browser does not run. The tables do not.",
        "Os gráficos precisam de JavaScript, que este navegador não executa. As tabelas, não.",
    ),
    "chart_failed": ("This chart could not be drawn.", "Este gráfico não pôde ser desenhado."),
    # lineage
    "lineage": ("Lineage", "Linhagem"),
    "lineage_lede": (
        "Choose a column to see what its values are computed from, and what is computed from them. Filters, joins and"
        " GROUP BY decide which rows there are and are not followed.",
        "Escolha uma coluna para ver de que seus valores são calculados, e o que se calcula deles. Filtros, junções e"
        " GROUP BY decidem quais linhas existem e não são seguidos.",
    ),
    "find_column": ("Find a column", "Encontrar uma coluna"),
    "clear": ("Clear", "Limpar"),
    "personal": ("personal", "pessoal"),
    "from_columns": ("from", "de"),
    "reads": ("reads", "lê"),
    "constant": ("from no column", "de nenhuma coluna"),
    "all_columns": ("All columns and what they are computed from", "Todas as colunas e de que são calculadas"),
    "computed_as": ("computed as", "calculada como"),
    # models and runs
    "models": ("Models", "Modelos"),
    "models_lede": (
        "How each model is kept up to date, and why so.",
        "Como cada modelo é mantido em dia, e por quê.",
    ),
    "model": ("model", "modelo"),
    "strategy": ("strategy", "estratégia"),
    "keys": ("keys", "chaves"),
    "version": ("version", "versão"),
    "runs": ("Runs", "Execuções"),
    "run": ("run", "execução"),
    "doing": ("doing", "fazendo"),
    "started": ("started", "início"),
    "seconds": ("seconds", "segundos"),
    "exit_code": ("exit code", "código de saída"),
    "failed": ("failed", "falhou"),
    "nothing_new": ("nothing new", "sem novidade"),
    "about": (
        "Written by lakehouse {version}, command: lakehouse report {folder}. One file: it loads and sends nothing."
        " It is a copy of what the lake held: after lakehouse forget, make it anew and delete the old one.",
        "Escrito pelo lakehouse {version}, comando: lakehouse report {folder}. Um só arquivo: nada carrega, nada envia."
        " É uma cópia do que o lake tinha: depois de lakehouse forget, gere-o de novo e apague o antigo.",
    ),
}
