
// Pay the 402 this page stands for, with a wallet (EIP-1193), and show what was paid for.
// What a server, a wallet or a handler says is put in by textContent only. One click asks for one signature at most, and a
// payment that was signed is kept until the server says that it is refused: presenting it again cannot charge twice.
(() => {
  "use strict";
  const ATTEMPTS = 10;         // how often one payment is presented for one click
  const LONGEST = 600;         // seconds a signature is good for at most
  const MARGIN = 10;           // seconds that must be left of them when it is sent
  const TEXT = 1 << 20;        // characters of text shown; all of it can be saved
  const PERMIT2 = "000000000022d473030f116ddee9f6b43ac78ba3";
  const NONCE = document.currentScript.nonce;
  const REASONS = {
    insufficient_funds: "There is not enough money in this account on this network.",
    permit2_insufficient_balance: "There is not enough money in this account on this network.",
    permit2_allowance_required: "This account has not allowed the Permit2 contract to move the asset.",
    "No matching payment requirements": "The price has changed. Reload the page to see the new one.",
    invalid_exact_evm_payload_signature: "The signature is not this account's. Is the wallet on the right account?",
  };
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("x402-data").textContent);
  const skew = data.now - Date.now() / 1000;  // the payer's clock may be wrong
  const wallets = new Map();   // uuid -> {name, provider}
  let offer = null;
  let payment = null;          // {header, offer}: signed, and not refused yet
  let busy = false;

  class Told extends Error {}  // a problem in our own words

  // --- small things --------------------------------------------------------------------------------------------------

  const text = (id, value) => { $(id).textContent = value; };
  const show = (id, shown) => { $(id).hidden = !shown; };
  const now = () => Math.floor(Date.now() / 1000 + skew);
  const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const random = (length) => hex(crypto.getRandomValues(new Uint8Array(length)));
  const short = (value) => String(value ?? "").slice(0, 300);

  function base64(string) {
    let binary = "";
    for (const byte of new TextEncoder().encode(string)) binary += String.fromCharCode(byte);
    return btoa(binary);
  }

  function decoded(header) {  // a document in a header, or null
    try {
      const found = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(header), (char) => char.charCodeAt(0))));
      return found && typeof found === "object" ? found : null;
    } catch { return null; }
  }

  function make(tag, attributes = {}, content = "") {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = content;
    return made;
  }

  function problem(message) {
    text("problem", message);
    show("problem", Boolean(message));
  }

  // --- what is asked -------------------------------------------------------------------------------------------------

  const payable = data.offers.filter((each) => each.kind);
  const price = (each) => (each.ceiling ? "up to " : "") + each.price;

  function describe(each) {
    offer = each;
    show("ceiling", each.ceiling);
    text("amount", each.price);
    text("exact", each.exact === each.price ? "" : each.exact);
    text("network", each.network.name + (each.network.testnet ? " (test network)" : ""));
    text("asset", each.asset.code || each.asset.name);
    text("asset-address", each.asset.address);
    text("payee", each.payee);
    label();
  }

  function label() {
    const name = wallets.size === 1 ? " with " + [...wallets.values()][0].name : "";
    text("pay", payment ? "Ask for it again" : offer && offer.kind ? "Pay " + price(offer) + name : "Pay");
    $("pay").disabled = busy || wallets.size === 0 || !(payment || (offer && offer.kind));
    for (const each of document.querySelectorAll("#offers input, #wallet")) each.disabled = busy || Boolean(payment);
  }

  function lay() {
    show("brand", Boolean(data.brand || data.logo));
    text("brand-name", data.brand);
    if (data.logo) { $("logo").src = data.logo; show("logo", true); }
    show("testnet", data.testnet);
    text("description", data.resource.description);
    text("url", data.resource.url.startsWith("/") ? location.origin + data.resource.url : data.resource.url);
    describe(payable[0] || data.offers[0]);
    show("offers", payable.length > 1);
    payable.forEach((each, index) => {
      const choice = make("label");
      const radio = make("input", { type: "radio", name: "offer", value: index });
      radio.checked = index === 0;
      radio.addEventListener("change", () => describe(each));
      const way = each.method === "permit2" ? ", through Permit2" : "";
      const asset = each.asset.code || each.asset.name;
      choice.append(radio, make("span", {}, `${price(each)} in ${asset} on ${each.network.name}${way}`));
      $("offers").append(choice);
    });
    if (data.error) problem(refusal(data.error.code, data.error.detail));
  }

  // --- wallets -------------------------------------------------------------------------------------------------------

  function found(uuid, name, provider) {
    if (!provider || typeof provider.request !== "function" || wallets.has(uuid)) return;
    for (const known of wallets.values()) if (known.provider === provider) return;
    wallets.set(uuid, { name: short(name).slice(0, 40) || "wallet", provider });
    $("wallet").append(make("option", { value: uuid }, wallets.get(uuid).name));
    show("wallet-choice", wallets.size > 1);
    text("status", "");
    label();
  }

  function discover() {
    addEventListener("eip6963:announceProvider", (event) => {  // EIP-6963: every wallet says its name
      const { info, provider } = event.detail || {};
      if (info) found("6963:" + info.uuid, info.name, provider);
    });
    dispatchEvent(new Event("eip6963:requestProvider"));
    const old = () => { if (wallets.size === 0) found("window", "your wallet", window.ethereum); };
    addEventListener("ethereum#initialized", old, { once: true });
    setTimeout(() => {
      old();
      if (wallets.size > 0) return;
      text("status", "No wallet found in this browser. Open the page in a browser with an Ethereum wallet.");
    }, 200);
  }

  async function ask(provider, method, params, declined) {
    try {
      return await provider.request({ method, params });
    } catch (error) {
      if (error && error.code === 4001) throw new Told(declined);
      const { code, message } = error || {};
      throw Object.assign(new Told("The wallet says: " + (short(message) || "no")), { code: code ?? 0 });
    }
  }

  async function account(provider) {
    const accounts = await ask(provider, "eth_requestAccounts", [], "You did not connect the wallet. Nothing was paid.");
    if (Array.isArray(accounts) && /^0x[0-9a-f]{40}$/i.test(accounts[0])) return accounts[0].toLowerCase();
    throw new Told("The wallet has no account to pay from.");
  }

  async function onChain(provider, network) {
    const same = async () => Number(await ask(provider, "eth_chainId", [], "")) === Number(network.chain);
    if (await same()) return;
    text("status", `Asking the wallet to switch to ${network.name}…`);
    const chain = `${network.name} (chain ${Number(network.chain)})`;
    try {
      const declined = `The payment is on ${chain}, and you did not switch the wallet to it. Nothing was paid.`;
      await ask(provider, "wallet_switchEthereumChain", [{ chainId: network.chain }], declined);
    } catch (error) {
      if (error.code === undefined) throw error;  // declined: no code, but our own words
      const advice = "Add this network to it, or choose it there, and try again.";
      throw new Told(`The wallet cannot switch to ${chain}. ${advice} ${error.message}`);
    }
    if (!(await same())) throw new Told(`The wallet is still on another network than ${chain}. Nothing was paid.`);
  }

  async function read(provider, to, call, what) {  // one number from the asset's contract
    const answer = await ask(provider, "eth_call", [{ to, data: call }, "latest"], "");
    if (!/^0x[0-9a-f]{64}$/i.test(answer)) throw new Told(`The wallet could not read ${what}. Nothing was paid.`);
    return BigInt(answer);
  }

  // --- signing -------------------------------------------------------------------------------------------------------

  async function filled(provider, each, payer) {  // the message to sign, with what only the payer can say
    const typed = structuredClone(each.typed);
    const { message } = typed;
    const ends = now() + Math.min(each.timeout, LONGEST);
    const word = payer.slice(2).padStart(64, "0");
    if (each.kind === "authorization") {
      Object.assign(message, { from: payer, validBefore: String(ends), nonce: "0x" + random(32) });
    } else if (each.kind === "permit2Authorization") {
      const call = "0xdd62ed3e" + word + PERMIT2.padStart(64, "0");  // allowance(owner, spender)
      const allowed = await read(provider, each.asset.address, call, "the allowance");
      if (allowed < BigInt(each.amount)) {
        throw new Told(
          `This price is paid through Permit2 (0x${PERMIT2}), which this account has not allowed to move ${each.exact}. ` +
          `Approve it once for ${each.asset.code || "the asset"} (${each.asset.address}) and try again. Nothing was paid.`);
      }
      Object.assign(message, { nonce: BigInt("0x" + random(32)).toString(), deadline: String(ends) });
    } else {
      const call = "0x7ecebe00" + word;  // nonces(owner)
      const nonce = await read(provider, each.asset.address, call, "the account's nonce");
      Object.assign(message, { owner: payer, nonce: nonce.toString(), deadline: String(ends) });
    }
    return { typed, ends };
  }

  function signature(answer) {
    if (typeof answer !== "string" || !/^0x([0-9a-f]{2}){65,8192}$/i.test(answer)) {
      throw new Told("The wallet gave no signature. Nothing was paid.");
    }
    const v = answer.length === 132 ? { "00": "1b", "01": "1c" }[answer.slice(-2)] : undefined;  // some wallets count from 0
    return v ? answer.slice(0, -2) + v : answer;
  }

  async function sign(each, provider) {
    text("status", "Waiting for the wallet…");
    const payer = await account(provider);
    await onChain(provider, each.network);
    const { typed, ends } = await filled(provider, each, payer);
    text("status", "Confirm the payment in your wallet…");
    const declined = "You declined the payment in your wallet. Nothing was paid.";
    const signed = signature(await ask(provider, "eth_signTypedData_v4", [payer, JSON.stringify(typed)], declined));
    if (now() > ends - Math.min(MARGIN, each.timeout / 2)) {
      throw new Told("The signature ran out of time before it was sent. Nothing was paid.");
    }
    const said = each.kind === "permit2Authorization" ? { from: payer, ...typed.message } : typed.message;
    const { resource, extensions, mark } = data.echo;
    const members = [  // the server's documents go back letter by letter
      '"x402Version":2', resource && '"resource":' + resource, '"accepted":' + each.accepted,
      '"payload":' + JSON.stringify({ signature: signed, [each.kind]: said }),
      extensions && '"extensions":' + extensions.replace(mark, random(16)),
    ];
    return { header: base64("{" + members.filter(Boolean).join(",") + "}"), offer: each };
  }

  // --- presenting ----------------------------------------------------------------------------------------------------

  const receiptOf = (response) => decoded(response.headers.get("PAYMENT-RESPONSE") || "");

  function waits(response) {  // ours is a 409 or a 503 that says when; a proxy's lost answer is as good as none
    const lost = [502, 504].includes(response.status);
    return lost || ([409, 503].includes(response.status) && response.headers.has("Retry-After"));
  }

  async function present(paying) {
    let transaction = "";
    for (let attempt = 1; ; attempt++) {
      text("status", attempt === 1 ? "Paying…" : "The payment is under way…");
      let response = null;
      try {
        response = await fetch(location.href.split("#")[0], {
          headers: { "PAYMENT-SIGNATURE": paying.header, Accept: "text/html,application/xhtml+xml,*/*;q=0.8" },
          cache: "no-store",
        });
      } catch { /* no answer is no refusal */ }
      if (response && !waits(response)) return response;
      if (response) {
        transaction = (receiptOf(response) || {}).transaction || transaction;
        response.body?.cancel();
      }
      if (attempt === ATTEMPTS) break;
      const asked = Number(response && response.headers.get("Retry-After"));
      await sleep(Math.min(Math.max(asked || 1, 0.5), 10));
    }
    const seen = transaction ? ` Its transaction is ${short(transaction)}.` : "";
    const advice = "Ask again: it is the same payment, and not charged twice.";
    throw new Told(`There is no answer yet, and the payment may have been made.${seen} ${advice}`);
  }

  function refusal(code, detail) {
    const known = Object.hasOwn(REASONS, code) ? REASONS[code] : "The payment was refused.";
    return [known, short(detail), code ? `(${short(code)})` : ""].filter(Boolean).join("\n");
  }

  async function refused(response) {
    const challenge = decoded(response.headers.get("PAYMENT-REQUIRED") || "");
    let body = null;
    try { body = JSON.parse(await response.text()); } catch { /* then there is no more to say */ }
    const code = (challenge && challenge.error) || (body && (body.error || body.title)) || "HTTP " + response.status;
    const told = body && typeof body.detail === "string" ? body.detail : "";
    const detail = told.includes("PAYMENT-REQUIRED") ? "" : told;  // that one is for programs
    if ([400, 402, 409].includes(response.status)) {
      payment = null;
      return refusal(String(code), detail);
    }
    const receipt = receiptOf(response);
    const paid = receipt && receipt.success ? "The payment was made." : "Nothing shows that the payment was made.";
    return `The server answered ${response.status}. ${paid} You may ask again with the same payment.\n${short(detail)}`.trim();
  }

  // --- what was paid for ---------------------------------------------------------------------------------------------

  function receive(response, network) {
    const receipt = receiptOf(response);
    const transaction = receipt && typeof receipt.transaction === "string" ? receipt.transaction : "";
    text("result-title", receipt && receipt.success ? "Paid" : "Here it is");
    text("transaction", short(transaction));
    show("receipt", Boolean(transaction));
    if (network.explorer && /^0x[0-9a-f]{64}$/i.test(transaction)) $("transaction").href = network.explorer + transaction;
    document.body.classList.add("paid");
    show("result", true);
    $("result-title").focus();
    return content(response);
  }

  async function content(response) {
    const type = (response.headers.get("Content-Type") || "").split(";")[0].trim().toLowerCase();
    const told = response.headers.get("Content-Disposition") || "";
    const attached = /^\s*attachment/i.test(told);
    const isPage = !attached && (type === "text/html" || type === "application/xhtml+xml");
    const isPicture = !attached && type.startsWith("image/");
    const isText = !attached && !isPage && !isPicture && /^text\/|[/+](json|xml)$|^application\/(javascript|yaml)$/.test(type);
    const pre = make("pre", { tabindex: "0", "aria-label": "What you paid for" });
    if (isText) $("content").append(pre);
    const blob = await collected(response, type, isText ? pre : null);
    if (isPage) await framed(await blob.text());
    else if (isPicture) {
      $("content").append(make("img", { src: URL.createObjectURL(blob), alt: "The picture you paid for" }));
    } else if (!isText) note("What you paid for cannot be shown here: save it.");
    const save = $("save");
    save.href = URL.createObjectURL(blob);
    save.download = (/filename="?([^";]+)/i.exec(told) || [])[1] || location.pathname.split("/").pop() || "paid";
    show("save", blob.size > 0);
  }

  function note(message) {
    text("result-note", message);
    show("result-note", true);
  }

  async function collected(response, type, pre) {  // text appears as it comes: it may be a stream without an end
    const chunks = [];
    const decoder = new TextDecoder();
    let shown = 0;
    const reader = response.body && response.body.getReader();
    try {
      for (let part; reader && !(part = await reader.read()).done;) {
        chunks.push(part.value);
        if (!pre || shown >= TEXT) continue;
        const more = decoder.decode(part.value, { stream: true }).slice(0, TEXT - shown);
        shown += more.length;
        pre.append(more);
        if (shown >= TEXT) note("This is the beginning. Save it to have all of it.");
      }
    } catch { note("The answer broke off."); }
    return new Blob(chunks, { type: type || "application/octet-stream" });
  }

  async function framed(source) {  // a page is shown without its scripts, and cut off from this one and from other hosts
    const page = new DOMParser().parseFromString(source, "text/html");
    if (page.querySelector("script")) note("The page is shown without its scripts. Save it to have all of it.");
    const left = "script, base, meta[http-equiv], link:not([rel~=stylesheet i]), iframe, frame, object, embed, template";
    for (const each of page.querySelectorAll(left)) each.remove();  // a frame that CSP blocks is still connected to
    for (const each of page.querySelectorAll("style, link")) {  // CSP lets in styles that bear the nonce
      if (each.tagName === "LINK" && !each.href.startsWith(location.origin + "/")) each.remove();
      else each.setAttribute("nonce", NONCE);
    }
    for (const each of page.querySelectorAll("a, area")) {
      if (!/^(https?|mailto):$/.test(each.protocol)) each.removeAttribute("href");
      each.setAttribute("target", "_blank");
      each.setAttribute("rel", "noopener noreferrer");
    }
    const frame = make("iframe", { title: "The page you paid for", sandbox: "allow-popups allow-popups-to-escape-sandbox" });
    frame.srcdoc = "<!doctype html>" + page.documentElement.outerHTML;
    $("content").append(frame);
  }

  // --- the button ----------------------------------------------------------------------------------------------------

  async function pay() {
    if (busy) return;
    busy = true;
    problem("");
    label();
    $("card").setAttribute("aria-busy", "true");
    try {
      const chosen = wallets.get($("wallet").value) || [...wallets.values()][0];
      payment = payment || (await sign(offer, chosen.provider));
      const response = await present(payment);
      if (response.ok) await receive(response, payment.offer.network);
      else problem(await refused(response));
    } catch (error) {
      const message = error instanceof Told ? error.message : "This page failed: " + short(error && error.message);
      if (document.body.classList.contains("paid")) note(message);
      else problem(message);
    } finally {
      busy = false;
      $("card").removeAttribute("aria-busy");
      text("status", "");
      label();
      if (!document.body.classList.contains("paid")) $("pay").focus();
    }
  }

  addEventListener("beforeunload", (event) => { if (busy && payment) event.preventDefault(); });
  $("pay").addEventListener("click", pay);
  lay();
  discover();
})();
