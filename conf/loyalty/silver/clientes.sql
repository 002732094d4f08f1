-- One row per client, with the points balance as the source states it.
SELECT
    c.idCliente AS id_cliente,
    CAST(c.flEmail AS BOOLEAN) AS fl_email,
    CAST(c.flTwitch AS BOOLEAN) AS fl_twitch,
    CAST(c.flYouTube AS BOOLEAN) AS fl_youtube,
    CAST(c.flBlueSky AS BOOLEAN) AS fl_bluesky,
    CAST(c.flInstagram AS BOOLEAN) AS fl_instagram,
    c.qtdePontos AS qtde_pontos,
    c.DtCriacao AS dt_criacao,
    c.DtAtualizacao AS dt_atualizacao
FROM bronze.clientes AS c
