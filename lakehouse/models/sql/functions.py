"""Lists Spark SQL's functions by their permitted use in a model. Names are in lower case."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """Return the words of a text.

    Args:
        text: The words, separated by white space.
    """
    return frozenset(text.split())


# Functions that depend on the clock, on chance, on the reader, on Spark's version or on the order of rows. A model must
# not use them. Sketches are among them: their bytes, and so their estimates, follow the order in which rows come, and
# those of KLL chance. `determinism` knows aes_encrypt, which draws a vector unless it is given one.
NON_DETERMINISTIC = words(
    """
    any_value approx_count_distinct approx_percentile approx_top_k approx_top_k_accumulate approx_top_k_combine
    curdate current_catalog current_database current_date current_path current_schema current_time
    current_timestamp current_timezone current_user first first_value histogram_numeric hll_sketch_agg
    hll_union_agg input_file_block_length input_file_block_start input_file_name java_method kll_merge_agg_bigint
    kll_merge_agg_double kll_merge_agg_float kll_sketch_agg_bigint kll_sketch_agg_double kll_sketch_agg_float
    kll_sketch_merge_bigint kll_sketch_merge_double kll_sketch_merge_float last last_value localtimestamp
    monotonically_increasing_id now percentile_approx rand randn random randstr reflect session_user shuffle
    spark_partition_id try_reflect tuple_intersection_agg_double tuple_intersection_agg_integer
    tuple_sketch_agg_double tuple_sketch_agg_integer tuple_union_agg_double tuple_union_agg_integer uniform
    unix_timestamp user uuid version
    """
)

# Those of them that may be called without parentheses.
NON_DETERMINISTIC_KEYWORDS = words(
    """
    current_date current_time current_timestamp current_user localtimestamp session_user
    """
)

# Functions that make several rows from one.
GENERATORS = words(
    """
    explode explode_outer inline inline_outer json_tuple posexplode posexplode_outer stack variant_explode
    """
)

# Functions of one row. Only known ones are listed, because any other name could be an aggregate.
SCALAR = words(
    """
    abs acos acosh add_months array array_compact array_contains array_distinct array_except array_intersect
    array_join array_max array_min array_position array_remove array_size array_sort array_union arrays_overlap
    ascii asin asinh atan atan2 atanh base64 bigint bin binary bit_count bit_length boolean bround btrim
    cardinality cast cbrt ceil ceiling char char_length character_length chr coalesce concat concat_ws contains
    conv convert_timezone cos cosh cot crc32 csc date date_add date_diff date_format date_from_unix_date
    date_part date_sub date_trunc dateadd datediff datepart day dayname dayofmonth dayofweek dayofyear decimal
    decode degrees double e element_at elt encode endswith equal_null exp expm1 extract factorial filter
    find_in_set flatten float floor forall format_number format_string from_csv from_json from_unixtime
    from_utc_timestamp get get_json_object getbit greatest hash hex hour hypot if ifnull ilike initcap instr int
    isnan isnotnull isnull json_array_length json_object_keys last_day lcase least left len length levenshtein
    like ln locate log log10 log1p log2 lower lpad ltrim luhn_check make_date make_timestamp map map_keys
    map_values mask md5 minute mod month monthname months_between named_struct nanvl negative next_day not
    nullif nullifzero nvl nvl2 octet_length overlay parse_url pi pmod position positive pow power quarter
    radians regexp regexp_count regexp_extract regexp_extract_all regexp_instr regexp_like regexp_replace
    regexp_substr repeat replace reverse right rint rlike round rpad rtrim sec second sequence sha sha1 sha2
    shiftleft shiftright sign signum sin sinh size slice smallint sort_array soundex space split split_part sqrt
    startswith string struct substr substring substring_index tan tanh timestamp timestamp_micros
    timestamp_millis timestamp_seconds timestampadd timestampdiff tinyint to_char to_csv to_date to_json
    to_number to_timestamp to_unix_timestamp to_utc_timestamp transform translate trim trunc try_add try_cast
    try_divide try_element_at try_multiply try_subtract try_to_date try_to_number try_to_timestamp typeof ucase
    unbase64 unhex unix_date unix_micros unix_millis unix_seconds upper url_decode url_encode weekday weekofyear
    width_bucket xxhash64 year zeroifnull zip_with
    """
)

# Functions that make one value from many rows, the same in any order of rows if the type is exact.
AGGREGATES = words(
    """
    any avg bit_and bit_or bit_xor bool_and bool_or count count_if every max mean median min percentile some sum
    try_avg try_sum
    """
)
# Those of them that are exact for integers and DECIMAL, but depend on the order of rows for DOUBLE.
SUMS = words("avg mean sum try_avg try_sum")
# Functions that collect values in the order of rows.
COLLECTING = words("array_agg collect_list collect_set")
GROUPING = words("grouping grouping_id")
# Window functions; ties do not change the result of RANKS.
RANKS = words("cume_dist dense_rank percent_rank rank")
# Those that take a value, or a number, by the position of a row: the order has to be unique.
BY_POSITION = words("first first_value lag last last_value lead nth_value ntile row_number")
WINDOW = BY_POSITION | RANKS | AGGREGATES

_STATISTIC = "its last digits depend on the order of rows: keep COUNT, SUM(x) and SUM(x * x) as DECIMAL"
_TIE = "MAX(STRUCT(by, value)).value, or MIN: in a tie it takes the greatest value"
ALTERNATIVES = {
    **dict.fromkeys(words("max_by min_by"), _TIE),
    **dict.fromkeys(words("corr covar_pop covar_samp kurtosis skewness std stddev stddev_pop stddev_samp"), _STATISTIC),
    **dict.fromkeys(words("var_pop var_samp variance"), _STATISTIC),
    **dict.fromkeys(GENERATORS, "make several rows from one in a model of its own"),
    **dict.fromkeys(words("percentile_cont percentile_disc mode"), "percentile(x, 0.5)"),
    "listagg": "array_join(array_sort(collect_list(x)), ',')",
    "string_agg": "array_join(array_sort(collect_list(x)), ',')",
}

# Words before a parenthesis that call no function.
KEYWORDS = words(
    """
    and as between by case distinct div else except exists filter from group having in intersect interval is
    like not null on or order over partition rlike select sets then union using values when where with within
    """
)
