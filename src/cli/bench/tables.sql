-- The tables of the figures, empty, in a schema of their own.
create schema driftless_bench;
create table driftless_bench.w1 (
  id bigint primary key, i4 int, num numeric(18,4),
  t1 text, t2 text, t3 text, ts timestamptz, u uuid, b bool, j jsonb);
create table driftless_bench.w4 (id int primary key, seq bigint, payload text);
create table driftless_bench.w5 (id int primary key, seq bigint, payload text);
create table driftless_bench.w6 (id int primary key, seq bigint, payload text);
