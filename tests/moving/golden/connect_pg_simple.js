// Writes connect_pg_simple.json: sessions as express-session 1.18 and connect-pg-simple 10.0 store them, with their
// cookies. To make it anew: npm install express express-session connect-pg-simple pg, then
// DATABASE_URL=postgresql://postgres@127.0.0.1/scratch node connect_pg_simple.js > connect_pg_simple.json

const fs = require("fs");
const express = require("express");
const session = require("express-session");
const { Pool } = require("pg");
const Store = require("connect-pg-simple")(session);

const schema = fs.readFileSync(require.resolve("connect-pg-simple/table.sql"), "utf8");

async function main() {
  const pool = new Pool({ connectionString: process.env.DATABASE_URL });
  await pool.query(schema);
  const app = express();
  const hundredYears = 100 * 365 * 24 * 60 * 60 * 1000;
  app.use(session({
    store: new Store({ pool, pruneSessionInterval: false }),
    secret: "of the tests",
    resave: false,
    saveUninitialized: false,
    cookie: { maxAge: hundredYears },
  }));
  app.get("/:user", (request, response) => {
    request.session.user = request.params.user;
    request.session.name = "Ä \u{1f600}";
    response.end();
  });
  const server = app.listen(0, "127.0.0.1", async () => {
    const cookies = {};
    for (const user of ["ann", "bob", "eve"]) {
      const answer = await fetch(`http://127.0.0.1:${server.address().port}/${user}`);
      cookies[user] = /connect\.sid=([^;]*)/.exec(answer.headers.get("set-cookie"))[1];
    }
    const { rows } = await pool.query("SELECT sid, sess::text, expire::text FROM session ORDER BY sess::text");
    await pool.query("DROP TABLE session");
    process.stdout.write(JSON.stringify({ schema, cookies, rows }, null, 2) + "\n");
    server.close();
    await pool.end();
  });
}

main();
