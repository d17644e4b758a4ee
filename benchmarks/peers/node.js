// The peers' cases by child_process: node.js EXIT FEED (README.md says what it is asked, and how it answers).
// One child after the other is spawnSync's, as a script would have it; the rest is what a server uses.
'use strict';

const assert = require('assert');
const { execFile, spawn, spawnSync } = require('child_process');
const readline = require('readline');

const AT_ONCE = 100;
const LINES_OF_A_PIPELINE = 300;
const SIZE_OF_A_LINE = 32;
const [exit, feed] = process.argv.slice(2);
const held = [];
const ballast = [];

function sync(stdio, count) {
    for (let i = 0; i < count; i++) {
        const { status } = spawnSync(exit, [], { stdio });
        assert.strictEqual(status, 0);
    }
}

function output(program, args, limit) {
    return new Promise((resolve, reject) => {
        const options = { encoding: 'buffer', maxBuffer: limit };
        execFile(program, args, options, (error, stdout) => (error ? reject(error) : resolve(stdout)));
    });
}

function ended(child) {
    return new Promise((resolve, reject) => {
        child.once('error', reject);
        child.once('close', resolve);
    });
}

async function many(count) {
    async function worker() {
        while (count-- > 0) {
            assert.strictEqual((await output(exit, [], 1024)).length, 0);
        }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

async function lines(count) {
    const child = spawn(feed, ['lines', String(count)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const end = ended(child);
    let seen = 0;
    readline.createInterface({ input: child.stdout }).on('line', (line) => {
        assert.strictEqual(line.length, SIZE_OF_A_LINE - 1);
        seen++;
    });
    assert.strictEqual(await end, 0);
    assert.strictEqual(seen, count);
}

async function pipeline() {
    const all = [spawn(feed, ['lines', String(LINES_OF_A_PIPELINE)], { stdio: ['ignore', 'pipe', 'inherit'] })];
    for (let i = 0; i < 2; i++) {
        const child = spawn(feed, ['copy'], { stdio: ['pipe', 'pipe', 'inherit'] });
        all[i].stdout.pipe(child.stdin);
        all.push(child);
    }
    let size = 0;
    all[2].stdout.on('data', (chunk) => (size += chunk.length));
    assert.deepStrictEqual(await Promise.all(all.map(ended)), [0, 0, 0]);
    assert.strictEqual(size, LINES_OF_A_PIPELINE * SIZE_OF_A_LINE);
}

const cases = {
    spawn: (count) => sync(['ignore', 'inherit', 'inherit'], count),
    capture: (count) => sync(['ignore', 'pipe', 'pipe'], count),
    many,
    big: async (count) => assert.strictEqual((await output(feed, ['bytes', String(count)], 2 * count)).length, count),
    lines,
    pipeline: async (count) => {
        for (let i = 0; i < count; i++) {
            await pipeline();
        }
    },
    hold: (count) => {
        for (let i = 0; i < count; i++) {
            held.push(spawn(feed, ['pause'], { stdio: ['ignore', 'pipe', 'pipe'] }));
        }
    },
    drop: async () => {
        const ends = held.map(ended);
        held.splice(0).forEach((child) => child.kill('SIGKILL'));
        await Promise.all(ends);
    },
    ballast: (count) => {
        ballast.push(Buffer.alloc(count, 1));
    },
};

async function main() {
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const [name, count] = line.split(' ');
        const begin = process.hrtime.bigint();
        if (cases[name]) {
            await cases[name](Number(count));
            process.stdout.write(`${process.hrtime.bigint() - begin}\n`);
        } else {
            process.stdout.write('-\n');
        }
    }
}

main();
