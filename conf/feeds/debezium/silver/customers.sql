SELECT c.id AS id, c.after.name AS name, c.after.points AS points
FROM bronze.customers AS c
