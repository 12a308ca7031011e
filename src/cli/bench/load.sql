-- The load of the figures: {rows} rows of ten columns in transactions of 1 000, the same bytes every time.
do $$
begin
  for k in 0..{rows} / 1000 - 1 loop
    insert into driftless_bench.w1
    select g, ((g * 7919) % 1000000)::int, ((g * 104729) % 100000000)::numeric / 10000,
      rpad(md5(g::text), 20 + (g % 13)::int, 'a'),
      md5((g + 1)::text) || substr(md5((g + 2)::text), 1, (g % 24)::int),
      md5((g + 3)::text) || substr(md5((g + 4)::text), 1, (g % 28)::int),
      timestamptz '2024-01-01' + (g || ' seconds')::interval,
      md5(g::text)::uuid, g % 2 = 0,
      jsonb_build_object('k', g % 100, 's', substr(md5(g::text), 1, 8))
    from generate_series(k::bigint * 1000 + 1, k::bigint * 1000 + 1000) g;
    commit;
  end loop;
end $$
