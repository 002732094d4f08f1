-- One row per line of a transaction: a product (or a course's slug), how many, and the points of one.
SELECT
    l.idTransacaoProduto AS id_transacao_produto,
    l.IdTransacao AS id_transacao,
    l.IdProduto AS id_produto,
    l.QtdeProduto AS qtde_produto,
    l.vlProduto AS vl_produto
FROM bronze.transacao_produto AS l
