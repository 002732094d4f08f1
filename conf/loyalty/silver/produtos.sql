-- One row per product of the catalogue. Courses are sold without a row here.
SELECT
    p.IdProduto AS id_produto,
    p.DescNomeProduto AS desc_produto,
    p.DescDescricaoProduto AS desc_descricao_produto,
    p.DescCategoriaProduto AS desc_categoria_produto
FROM bronze.produtos AS p
