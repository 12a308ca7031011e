-- Takes away what a measurement left behind; nothing else is touched.
drop schema if exists driftless_bench cascade;
drop schema if exists driftless_bench_ledger cascade;
do $$
declare name text;
begin
  for name in select pubname from pg_publication where pubname like 'driftless\_bench\_%' loop
    execute format('drop publication %I', name);
  end loop;
end $$;
select pg_terminate_backend(active_pid) from pg_replication_slots
  where slot_name like 'driftless\_bench\_%' and database = current_database() and active;
