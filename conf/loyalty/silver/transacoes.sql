-- One row per transaction, with the day on which it happened in the business time zone.
SELECT
    t.IdTransacao AS id_transacao,
    t.IdCliente AS id_cliente,
    t.DtCriacao AS dt_criacao,
    CAST(from_utc_timestamp(t.DtCriacao, :business_timezone) AS DATE) AS dt_transacao,
    t.QtdePontos AS qtde_pontos,
    t.DescSistemaOrigem AS desc_sistema_origem
FROM bronze.transacoes AS t
