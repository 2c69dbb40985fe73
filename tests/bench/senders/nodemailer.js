// Sends mails through nodemailer's pool, and prints how many seconds that took.
// PORT CONNECTIONS MAILS BODY_FILE: four callers for each connection, so that the pool always has the next mail; each
// sends one after the other. It is a little faster so than with all mails in its queue at once.
const fs = require('fs');
const nodemailer = require('nodemailer');

const [port, connections, mails, file] = process.argv.slice(-4);
const text = fs.readFileSync(file, 'utf8');
const transport = nodemailer.createTransport({
  pool: true, host: '127.0.0.1', port: Number(port), secure: false, ignoreTLS: true,
  maxConnections: Number(connections), maxMessages: Infinity,
});

async function main() {
  const begun = process.hrtime.bigint();
  let left = Number(mails);
  await Promise.all(Array.from({ length: 4 * Number(connections) }, async () => {
    while (left-- > 0) {
      await transport.sendMail({
        from: 'sender@example.org', to: 'anna@example.org', subject: 'a mail of the benchmark', text,
      });
    }
  }));
  console.log(Number(process.hrtime.bigint() - begun) / 1e9);
  transport.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
