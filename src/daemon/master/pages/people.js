(() => {
'use strict';
// What a page can be made of. Nothing else is taken from an answer, whatever it holds.
const ELEMENTS = new Set('h1 h2 h3 p ul li div table thead tbody tr th td code small svg path'.split(' '));
const ATTRIBUTES = ['class', 'scope', 'viewBox', 'preserveAspectRatio', 'aria-hidden', 'd'];
const TEXT = 3;
// Makes what is shown like what came. What stays the same is not touched: it may be selected, or scrolled.
function change(shown, came) {
  for (const name of ATTRIBUTES) {
    const value = came.getAttribute(name);
    if (value === null) shown.removeAttribute(name);
    else if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  }
  const children = [...came.childNodes].filter(child => child.nodeType === TEXT || ELEMENTS.has(child.localName));
  children.forEach((child, place) => {
    let old = shown.childNodes[place];
    if (!old || old.nodeName !== child.nodeName) {
      const made = child.nodeType === TEXT ? new Text() : document.createElementNS(child.namespaceURI, child.localName);
      if (old) old.replaceWith(made);
      else shown.append(made);
      old = made;
    }
    if (child.nodeType !== TEXT) change(old, child);
    else if (old.data !== child.data) old.data = child.data;
  });
  while (shown.childNodes.length > children.length) shown.lastChild.remove();
}
const main = document.querySelector('main'), live = document.querySelector('#live');
const release = of => of.querySelector('meta[name=generator]')?.content;
const say = text => { if (live.textContent !== text) live.textContent = text; };
let seen = new Date(), asks = false;
function ask() {
  if (asks || document.hidden) return;
  asks = true;
  const request = new XMLHttpRequest();
  request.open('GET', location.href);
  request.responseType = 'document';
  request.timeout = 5000;
  request.onloadend = () => {
    asks = false;
    const page = request.status === 200 && request.responseXML, came = page && page.querySelector('main');
    document.documentElement.className = came ? '' : 'lost';
    if (!came) return say(`No answer since ${seen.toLocaleTimeString()}. This page goes on asking.`);
    if (release(page) !== release(document)) return location.reload();
    seen = new Date();
    document.title = page.title;
    change(main, came);
    say('live, every 2 seconds');
  };
  request.send();
}
setInterval(ask, 2000);
document.addEventListener('visibilitychange', ask);
})();
