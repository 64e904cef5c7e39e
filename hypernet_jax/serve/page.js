// Makes gradio's page usable by keyboard, by screen readers and by touch.
() => {
  const find = (selector) => document.querySelector(selector);
  const each = (selector, change) => document.querySelectorAll(selector).forEach(change);
  // Only what differs is set, so that the observer below comes to rest.
  const set = (element, values) => {
    for (const [name, value] of Object.entries(values))
      if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  };

  // Drags the divider by pixels, as a mouse does.
  const drag = (handle, by) => {
    const box = handle.getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    const send = (kind, target, clientX) => target.dispatchEvent(
      new MouseEvent(kind, {bubbles: true, cancelable: true, view: window, clientX, clientY: y}));
    send('mousedown', handle, x);
    send('mousemove', window, x + by);
    send('mouseup', window, x + by);
  };
  const onDividerKey = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const handle = event.currentTarget, width = handle.parentElement.clientWidth;
    const moves = {
      ArrowLeft: -width / 20, ArrowDown: -width / 20, Home: -width,
      ArrowRight: width / 20, ArrowUp: width / 20, End: width,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    drag(handle, moves[event.key]);
  };

  const describe = () => {
    // The text itself, not the seconds that gradio counts over it.
    each('#found [data-testid=markdown], #message [data-testid=markdown]',
      (line) => set(line, {'aria-live': 'polite'}));
    // One group with one tab stop, whose options the arrow keys choose.
    each('fieldset[id]', (group) => {
      const title = group.querySelector('[data-testid=block-info]');
      if (title) set(group, {'aria-label': title.textContent.trim()});
      group.querySelectorAll('input[type=radio]').forEach((option) => set(option, {name: group.id}));
    });
    each('button.label-wrap', (button) => {
      set(button, {'aria-expanded': String(button.classList.contains('open'))});
      button.querySelectorAll('.icon').forEach((arrow) => set(arrow, {'aria-hidden': 'true'}));
    });
    each('#photograph a[download]', (link) =>
      set(link, {'aria-label': `${link.getAttribute('download')}, ${link.textContent.trim()}`}));
    // It is clicked at a place; by keyboard there are the sliders below it.
    each('#overview button:has(img)', (button) => set(button, {tabindex: '-1'}));
    each('#overview img', (picture) =>
      set(picture, {alt: 'The whole photograph, with a frame around the window'}));
    each('#divider .slider-wrap img', (picture, index) =>
      set(picture, {alt: `The window ${index ? 'after' : 'before'} restoration`}));
    each('#divider .slider-wrap .outer', (handle) => {
      const width = handle.parentElement.clientWidth;
      if (!width) return;
      const share = Math.round(100 * new DOMMatrix(getComputedStyle(handle).transform).e / width);
      set(handle, {
        role: 'slider', tabindex: '0', 'aria-label': 'Divider between before and after',
        'aria-valuemin': '0', 'aria-valuemax': '100', 'aria-valuenow': String(share),
      });
      handle.onkeydown = onDividerKey;
    });
  };

  // What had the focus by keyboard is gone or disabled: it goes on where the work does.
  let last = null, place = null;
  document.addEventListener('focusin', (event) => {
    last = event.target.matches(':focus-visible') ? event.target : null;
    place = event.target.closest('#photograph');
  });
  const keepFocus = () => {
    if (!last || (last.isConnected && !last.disabled)) return;
    const next = last.id === 'stop' ? find('#restore') : place?.querySelector('a, button');
    if (!next || ![document.body, last].includes(document.activeElement)) return;
    next.focus({preventScroll: true});
  };

  // A finger on a picture that is not enlarged scrolls the page.
  document.addEventListener('touchstart', (event) => {
    const pictures = event.target.closest('#divider .slider-wrap');
    if (!pictures || event.touches.length > 1 || event.target.closest('.outer')) return;
    if (pictures.querySelector('img')?.style.transform.endsWith('scale(1)'))
      event.stopPropagation();
  }, {capture: true, passive: true});

  document.documentElement.lang = 'en';
  // Once a frame, however much changes in it.
  let due = false;
  const look = () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; describe(); keepFocus(); });
  };
  look();
  new MutationObserver(look).observe(document.body, {
    subtree: true, childList: true, attributes: true,
    attributeFilter: ['class', 'style', 'disabled'],
  });
}
